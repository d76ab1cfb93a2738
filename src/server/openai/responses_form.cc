#include "server/openai/responses_form.h"

#include <fmt/format.h>

#include <utility>

namespace restkv::server {
namespace {

constexpr const char* kCompleted = "completed";
constexpr const char* kIncomplete = "incomplete";
constexpr const char* kInProgress = "in_progress";

Json counts_json(const TokenCounts& counts) {
  return Json::object({{"input_tokens", counts.prompt},
                       {"input_tokens_details", Json::object({{"cached_tokens", counts.cached},
                                                              {"cache_write_tokens", 0}})},
                       {"output_tokens", counts.completion},
                       {"output_tokens_details", Json::object({{"reasoning_tokens", 0}})},
                       {"total_tokens", counts.prompt + counts.completion}});
}

}  // namespace

ResponsesForm::ResponsesForm(AnswerStamp stamp, Json echo, bool with_logprobs)
    : stamp_(std::move(stamp)), echo_(std::move(echo)), with_logprobs_(with_logprobs) {}

std::string ResponsesForm::item_id(Part part, size_t index) const {
  const char* prefix = part == Part::kReasoning ? "rs" : part == Part::kText ? "msg" : "fc";
  // npos + 1 is 0: all of an id without a prefix.
  const std::string_view letters = std::string_view(stamp_.id).substr(stamp_.id.find('_') + 1);
  return fmt::format("{}_{}_{}", prefix, letters, index);
}

Json ResponsesForm::content_json(const Item& item) const {
  if (item.part == Part::kReasoning) {
    return Json::object({{"type", "reasoning_text"}, {"text", item.text}});
  }
  return Json::object({{"type", "output_text"},
                       {"text", item.text},
                       {"annotations", Json::array()},
                       {"logprobs", logprobs_content(item.logprobs)}});
}

Json ResponsesForm::item_json(const Item& item, size_t index, const char* status) const {
  const std::string id = item_id(item.part, index);
  switch (item.part) {
    case Part::kReasoning:
      return Json::object({{"id", id},
                           {"type", "reasoning"},
                           {"status", status},
                           {"summary", Json::array()},
                           {"content", Json::array({content_json(item)})}});
    case Part::kCall:
      return Json::object({{"id", id},
                           {"type", "function_call"},
                           {"status", status},
                           {"call_id", item.call.id},
                           {"name", item.call.name},
                           {"arguments", item.text}});
    case Part::kText:
      break;
  }
  return Json::object({{"id", id},
                       {"type", "message"},
                       {"status", status},
                       {"role", "assistant"},
                       {"content", Json::array({content_json(item)})}});
}

Json ResponsesForm::begun_item_json(const Item& item, size_t index) const {
  Json json = item_json(item, index, kInProgress);
  if (item.part != Part::kCall) json["content"] = Json::array();
  return json;
}

Json ResponsesForm::response(const char* status, Json output) const {
  Json json = Json::object({{"id", stamp_.id},
                            {"object", "response"},
                            {"created_at", stamp_.created},
                            {"status", status},
                            {"error", nullptr},
                            {"incomplete_details", nullptr},
                            {"model", stamp_.model},
                            {"output", std::move(output)}});
  for (const auto& [name, value] : echo_.items()) json[name] = value;
  json["usage"] = Json();
  return json;
}

Json ResponsesForm::ended_response(FinishReason reason, Json output,
                                   const AnswerTotals& totals) const {
  const bool is_cut = reason != FinishReason::kStop;
  Json json = response(is_cut ? kIncomplete : kCompleted, std::move(output));
  if (is_cut) json["incomplete_details"] = Json::object({{"reason", "max_output_tokens"}});
  json["usage"] = counts_json(totals.counts);
  if (totals.cache) json["restkv"] = cache_json(*totals.cache);
  return json;
}

std::string ResponsesForm::whole(std::span<const ChatAnswer> answers,
                                 const AnswerTotals& totals) const {
  const ChatAnswer& answer = answers.front();
  std::vector<Item> items;
  if (!answer.reasoning.empty()) {
    items.push_back({.part = Part::kReasoning, .text = answer.reasoning});
  }
  if (!answer.content.empty()) {
    items.push_back({.part = Part::kText, .text = answer.content});
    if (with_logprobs_) items.back().logprobs = answer.logprobs;
  }
  for (const ToolCall& call : answer.tool_calls) {
    items.push_back({.part = Part::kCall, .call = call, .text = call.arguments});
  }
  const bool is_cut = answer.finish_reason != FinishReason::kStop;
  Json output = Json::array();
  for (size_t i = 0; i < items.size(); ++i) {
    const bool is_last = i + 1 == items.size();
    output.push_back(item_json(items[i], i, is_cut && is_last ? kIncomplete : kCompleted));
  }
  return ended_response(answer.finish_reason, std::move(output), totals).dump();
}

std::string ResponsesForm::event(std::string_view type, const Json& fields) {
  Json json = Json::object({{"type", type}, {"sequence_number", next_event_++}});
  for (const auto& [name, value] : fields.items()) json[name] = value;
  return sse_event(type, json);
}

std::string ResponsesForm::part_event(std::string_view type, const Json& fields) {
  Json json = Json::object(
      {{"item_id", item_id(item_.part, output_.size())}, {"output_index", output_.size()}});
  if (item_.part != Part::kCall) json["content_index"] = 0;
  for (const auto& [name, value] : fields.items()) json[name] = value;
  return event(type, json);
}

std::string ResponsesForm::begin(const TokenCounts& /*counts*/) {
  const Json fields = Json::object({{"response", response(kInProgress, Json::array())}});
  std::string events = event("response.created", fields);
  return events.append(event("response.in_progress", fields));
}

void ResponsesForm::add_logprobs(std::span<const NamedLogprob> logprobs) {
  if (!with_logprobs_) return;
  new_logprobs_.insert(new_logprobs_.end(), logprobs.begin(), logprobs.end());
}

std::string ResponsesForm::begin_part(Part part, const ChatDelta::Call& call) {
  item_ = {.part = part, .call = {.id = call.id, .name = call.name}};
  const size_t index = output_.size();
  std::string events =
      event("response.output_item.added",
            Json::object({{"output_index", index}, {"item", begun_item_json(item_, index)}}));
  if (part == Part::kCall) return events;
  return events +
         part_event("response.content_part.added", Json::object({{"part", content_json(item_)}}));
}

std::string ResponsesForm::write_part(std::string_view text) {
  item_.text += text;
  Json fields = Json::object({{"delta", text}});
  switch (item_.part) {
    case Part::kReasoning:
      return part_event("response.reasoning_text.delta", fields);
    case Part::kCall:
      return part_event("response.function_call_arguments.delta", fields);
    case Part::kText:
      break;
  }
  fields["logprobs"] = logprobs_content(new_logprobs_);
  item_.logprobs.insert(item_.logprobs.end(), new_logprobs_.begin(), new_logprobs_.end());
  new_logprobs_.clear();
  return part_event("response.output_text.delta", fields);
}

std::string ResponsesForm::end_part(bool is_cut) {
  std::string events;
  if (item_.part == Part::kCall) {
    events += part_event("response.function_call_arguments.done",
                         Json::object({{"arguments", item_.text}, {"name", item_.call.name}}));
  } else {
    Json fields = Json::object({{"text", item_.text}});
    if (item_.part == Part::kText) fields["logprobs"] = logprobs_content(item_.logprobs);
    events += part_event(
        item_.part == Part::kText ? "response.output_text.done" : "response.reasoning_text.done",
        fields);
    events +=
        part_event("response.content_part.done", Json::object({{"part", content_json(item_)}}));
  }
  const size_t index = output_.size();
  Json item = item_json(item_, index, is_cut ? kIncomplete : kCompleted);
  events +=
      event("response.output_item.done", Json::object({{"output_index", index}, {"item", item}}));
  output_.push_back(std::move(item));
  return events;
}

std::string ResponsesForm::finish(size_t /*choice*/, FinishReason reason,
                                  const AnswerTotals& totals) {
  const bool is_cut = reason != FinishReason::kStop;
  std::string events = end_parts(is_cut);
  return events + event(is_cut ? "response.incomplete" : "response.completed",
                        Json::object({{"response", ended_response(reason, output_, totals)}}));
}

std::string ResponsesForm::fail(const HttpError& error) {
  std::string events = end_parts(true);
  Json failed = response("failed", output_);
  const bool is_busy = error.status() == 429 || error.status() == 503;
  const char* code = is_busy                ? "rate_limit_exceeded"
                     : error.status() < 500 ? "invalid_prompt"
                                            : "server_error";
  failed["error"] = Json::object({{"code", code}, {"message", error.what()}});
  return events + event("response.failed", Json::object({{"response", std::move(failed)}}));
}

}  // namespace restkv::server
