#include "server/openai/anthropic_form.h"

#include <algorithm>
#include <utility>

#include "restkv/error.h"

namespace restkv::server {
namespace {

const char* stop_reason(FinishReason reason, bool has_calls, const AnswerTotals& totals) {
  if (reason != FinishReason::kStop) return "max_tokens";
  if (has_calls) return "tool_use";
  return totals.stopping_word.empty() ? "end_turn" : "stop_sequence";
}

/// The two fields that say why an answer ends.
void add_stop(Json& json, FinishReason reason, bool has_calls, const AnswerTotals& totals) {
  const std::string_view word = stop_reason(reason, has_calls, totals);
  json["stop_reason"] = word;
  json["stop_sequence"] = word == "stop_sequence" ? Json(totals.stopping_word) : Json();
}

Json counts_json(const TokenCounts& counts) {
  const size_t cached = std::min(counts.cached, counts.prompt);
  return Json::object({{"input_tokens", counts.prompt - cached},
                       {"cache_creation_input_tokens", 0},
                       {"cache_read_input_tokens", cached},
                       {"output_tokens", counts.completion}});
}

Json thinking_json(const std::string& text) {
  return Json::object({{"type", "thinking"}, {"thinking", text}, {"signature", ""}});
}

Json text_json(const std::string& text) { return Json::object({{"type", "text"}, {"text", text}}); }

Json call_json(const std::string& id, const std::string& name, Json input) {
  return Json::object(
      {{"type", "tool_use"}, {"id", id}, {"name", name}, {"input", std::move(input)}});
}

Json input_of(const std::string& arguments) {
  if (arguments.empty()) return Json::object();
  try {
    Json input = parse_json(arguments);
    if (input.is_object()) return input;
  } catch (const Error&) {
    // Below.
  }
  return Json::object({{"arguments", arguments}});
}

const char* error_type(int status) {
  switch (status) {
    case 401:
      return "authentication_error";
    case 403:
      return "permission_error";
    case 404:
      return "not_found_error";
    case 413:
      return "request_too_large";
    case 429:
      return "rate_limit_error";
    case 503:
      return "overloaded_error";
    default:
      return status < 500 ? "invalid_request_error" : "api_error";
  }
}

Json error_json(const HttpError& error) {
  return Json::object(
      {{"type", "error"},
       {"error", Json::object({{"type", error_type(error.status())}, {"message", error.what()}})}});
}

/// The name of the event is its type.
std::string event(const Json& json) { return sse_event(json.at("type").text(), json); }

}  // namespace

AnthropicForm::AnthropicForm(AnswerStamp stamp) : stamp_(std::move(stamp)) {}

Json AnthropicForm::message(Json content, const TokenCounts& counts) const {
  return Json::object({{"id", stamp_.id},
                       {"type", "message"},
                       {"role", "assistant"},
                       {"model", stamp_.model},
                       {"content", std::move(content)},
                       {"stop_reason", nullptr},
                       {"stop_sequence", nullptr},
                       {"usage", counts_json(counts)}});
}

std::string AnthropicForm::whole(std::span<const ChatAnswer> answers,
                                 const AnswerTotals& totals) const {
  const ChatAnswer& answer = answers.front();
  Json content = Json::array();
  if (!answer.reasoning.empty()) content.push_back(thinking_json(answer.reasoning));
  if (!answer.content.empty()) content.push_back(text_json(answer.content));
  for (const ToolCall& call : answer.tool_calls) {
    content.push_back(call_json(call.id, call.name, input_of(call.arguments)));
  }
  Json json = message(std::move(content), totals.counts);
  add_stop(json, answer.finish_reason, !answer.tool_calls.empty(), totals);
  if (totals.cache) json["restkv"] = cache_json(*totals.cache);
  return json.dump();
}

std::string AnthropicForm::begin(const TokenCounts& counts) {
  return event(
      Json::object({{"type", "message_start"}, {"message", message(Json::array(), counts)}}));
}

std::string AnthropicForm::begin_part(Part part, const ChatDelta::Call& call) {
  part_ = part;
  Json block = part == Part::kReasoning ? thinking_json("")
               : part == Part::kText    ? text_json("")
                                        : call_json(call.id, call.name, Json::object());
  return event(Json::object(
      {{"type", "content_block_start"}, {"index", index_}, {"content_block", std::move(block)}}));
}

std::string AnthropicForm::write_part(std::string_view text) {
  const auto [type, field] = part_ == Part::kReasoning ? std::pair("thinking_delta", "thinking")
                             : part_ == Part::kText    ? std::pair("text_delta", "text")
                                                    : std::pair("input_json_delta", "partial_json");
  return event(Json::object({{"type", "content_block_delta"},
                             {"index", index_},
                             {"delta", Json::object({{"type", type}, {field, text}})}}));
}

std::string AnthropicForm::end_part(bool /*is_cut*/) {
  return event(Json::object({{"type", "content_block_stop"}, {"index", index_++}}));
}

std::string AnthropicForm::finish(size_t /*choice*/, FinishReason reason,
                                  const AnswerTotals& totals) {
  std::string events = end_parts(reason != FinishReason::kStop);
  Json delta = Json::object();
  add_stop(delta, reason, has_calls(), totals);
  Json end = Json::object({{"type", "message_delta"},
                           {"delta", std::move(delta)},
                           {"usage", counts_json(totals.counts)}});
  if (totals.cache) end["restkv"] = cache_json(*totals.cache);
  return events + event(end) + event(Json::object({{"type", "message_stop"}}));
}

std::string AnthropicForm::fail(const HttpError& error) { return event(error_json(error)); }

Json anthropic_count_json(size_t tokens) { return Json::object({{"input_tokens", tokens}}); }

std::string anthropic_error(const HttpError& error) { return error_json(error).dump(); }

}  // namespace restkv::server
