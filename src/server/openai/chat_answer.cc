#include "server/openai/chat_answer.h"

#include <utility>

namespace restkv::server {
namespace {

Json stamped(const AnswerStamp& stamp, const char* object) {
  return Json::object({{"id", stamp.id},
                       {"object", object},
                       {"created", stamp.created},
                       {"model", stamp.model}});
}

/// Clients read one name or the other.
void add_reasoning(Json& message, const std::string& reasoning) {
  if (reasoning.empty()) return;
  message["reasoning_content"] = reasoning;
  message["reasoning"] = reasoning;
}

Json call_json(const ToolCall& call) {
  return Json::object(
      {{"id", call.id},
       {"type", "function"},
       {"function", Json::object({{"name", call.name}, {"arguments", call.arguments}})}});
}

Json message_json(const ChatAnswer& answer) {
  Json message = Json::object({{"role", "assistant"}});
  const bool only_calls = answer.content.empty() && !answer.tool_calls.empty();
  message["content"] = only_calls ? Json() : Json(answer.content);
  message["refusal"] = Json();
  add_reasoning(message, answer.reasoning);
  if (!answer.tool_calls.empty()) {
    Json calls = Json::array();
    for (const ToolCall& call : answer.tool_calls) calls.push_back(call_json(call));
    message["tool_calls"] = std::move(calls);
  }
  return message;
}

const char* chat_finish_word(FinishReason reason, bool has_calls) {
  return has_calls && reason == FinishReason::kStop ? "tool_calls" : finish_word(reason);
}

Json logprobs_json(std::span<const NamedLogprob> logprobs) {
  return Json::object({{"content", logprobs_content(logprobs)}, {"refusal", nullptr}});
}

Json call_delta_json(const ChatDelta::Call& call) {
  Json json = Json::object({{"index", call.index}});
  Json function = Json::object();
  if (!call.name.empty()) {
    json["id"] = call.id;
    json["type"] = "function";
    function["name"] = call.name;
  }
  function["arguments"] = call.arguments;
  json["function"] = std::move(function);
  return json;
}

}  // namespace

Json chat_completion(const AnswerStamp& stamp, std::span<const ChatAnswer> answers,
                     bool with_logprobs, const AnswerTotals& totals) {
  Json choices = Json::array();
  for (size_t i = 0; i < answers.size(); ++i) {
    const ChatAnswer& answer = answers[i];
    choices.push_back(Json::object(
        {{"index", i},
         {"message", message_json(answer)},
         {"logprobs", with_logprobs ? logprobs_json(answer.logprobs) : Json()},
         {"finish_reason", chat_finish_word(answer.finish_reason, !answer.tool_calls.empty())}}));
  }
  Json json = stamped(stamp, "chat.completion");
  json["choices"] = std::move(choices);
  json["usage"] = usage_json(totals.counts);
  if (totals.cache) json["restkv"] = cache_json(*totals.cache);
  return json;
}

ChatStream::ChatStream(AnswerStamp stamp, size_t choices, bool include_usage)
    : stamp_(std::move(stamp)), choices_(choices), include_usage_(include_usage) {}

Json ChatStream::head() const { return stamped(stamp_, "chat.completion.chunk"); }

Json ChatStream::chunk(size_t choice, Json delta, Json logprobs, Json finish) const {
  Json json = head();
  json["choices"] = Json::array({Json::object({{"index", choice},
                                               {"delta", std::move(delta)},
                                               {"logprobs", std::move(logprobs)},
                                               {"finish_reason", std::move(finish)}})});
  return json;
}

std::string ChatStream::write(size_t index, const ChatDelta& delta,
                              std::span<const NamedLogprob> logprobs) {
  Choice& choice = choices_.at(index);
  std::string events;
  if (!std::exchange(choice.begun, true)) {
    events += sse_event(chunk(index, Json::object({{"role", "assistant"}, {"content", ""}}), {},
                              {}));
  }
  Json json = Json::object();
  add_reasoning(json, choice.reasoning.push(delta.reasoning));
  const std::string content = choice.content.push(delta.content);
  if (!content.empty()) json["content"] = content;
  if (!delta.calls.empty()) {
    choice.has_calls = true;
    Json calls = Json::array();
    for (const ChatDelta::Call& call : delta.calls) calls.push_back(call_delta_json(call));
    json["tool_calls"] = std::move(calls);
  }
  if (json.empty() && logprobs.empty()) return events;
  Json list = logprobs.empty() ? Json() : logprobs_json(logprobs);
  return events + sse_event(chunk(index, std::move(json), std::move(list), {}));
}

std::string ChatStream::finish(size_t index, FinishReason reason, const AnswerTotals& totals) {
  Choice& choice = choices_.at(index);
  std::string events = write(index, {});
  ++finished_;
  const bool is_last = finished_ == choices_.size();
  Json end = chunk(index, Json::object(), {}, chat_finish_word(reason, choice.has_calls));
  const auto add_cache = [&](Json& json) {
    if (is_last && totals.cache) json["restkv"] = cache_json(*totals.cache);
  };
  if (!include_usage_) add_cache(end);
  events += sse_event(end);
  if (!is_last) return events;
  if (include_usage_) {
    Json usage = head();
    usage["choices"] = Json::array();
    usage["usage"] = usage_json(totals.counts);
    add_cache(usage);
    events += sse_event(usage);
  }
  return events.append(kSseDone);
}

}  // namespace restkv::server
