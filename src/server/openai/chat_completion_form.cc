#include "server/openai/chat_completion_form.h"

#include <utility>

namespace restkv::server {
namespace {

Json stamped(const AnswerStamp& stamp, const char* object) {
  return Json::object(
      {{"id", stamp.id}, {"object", object}, {"created", stamp.created}, {"model", stamp.model}});
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

ChatCompletionForm::ChatCompletionForm(AnswerStamp stamp, size_t choices, bool include_usage,
                                       bool with_logprobs)
    : stamp_(std::move(stamp)),
      choices_(choices),
      include_usage_(include_usage),
      with_logprobs_(with_logprobs) {}

std::string ChatCompletionForm::whole(std::span<const ChatAnswer> answers,
                                      const AnswerTotals& totals) const {
  Json choices = Json::array();
  for (size_t i = 0; i < answers.size(); ++i) {
    const ChatAnswer& answer = answers[i];
    choices.push_back(Json::object(
        {{"index", i},
         {"message", message_json(answer)},
         {"logprobs", with_logprobs_ ? logprobs_json(answer.logprobs) : Json()},
         {"finish_reason", chat_finish_word(answer.finish_reason, !answer.tool_calls.empty())}}));
  }
  Json json = stamped(stamp_, "chat.completion");
  json["choices"] = std::move(choices);
  json["usage"] = usage_json(totals.counts);
  if (totals.cache) json["restkv"] = cache_json(*totals.cache);
  return json.dump();
}

Json ChatCompletionForm::head() const { return stamped(stamp_, "chat.completion.chunk"); }

Json ChatCompletionForm::chunk(size_t choice, Json delta, Json logprobs, Json finish) const {
  Json json = head();
  json["choices"] = Json::array({Json::object({{"index", choice},
                                               {"delta", std::move(delta)},
                                               {"logprobs", std::move(logprobs)},
                                               {"finish_reason", std::move(finish)}})});
  return json;
}

std::string ChatCompletionForm::begin(const TokenCounts& /*counts*/) {
  std::string events;
  for (size_t i = 0; i < choices_.size(); ++i) {
    events += sse_event(chunk(i, Json::object({{"role", "assistant"}, {"content", ""}}), {}, {}));
  }
  return events;
}

std::string ChatCompletionForm::write(size_t index, const ChatDelta& delta,
                                      std::span<const NamedLogprob> logprobs) {
  Choice& choice = choices_.at(index);
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
  if (json.empty() && logprobs.empty()) return "";
  Json list = logprobs.empty() ? Json() : logprobs_json(logprobs);
  return sse_event(chunk(index, std::move(json), std::move(list), {}));
}

std::string ChatCompletionForm::finish(size_t index, FinishReason reason,
                                       const AnswerTotals& totals) {
  ++finished_;
  Json end =
      chunk(index, Json::object(), {}, chat_finish_word(reason, choices_.at(index).has_calls));
  if (finished_ < choices_.size()) return sse_event(end);
  return end_of_stream(std::move(end), head(), include_usage_, totals);
}

std::string ChatCompletionForm::fail(const HttpError& error) { return sse_error(error); }

}  // namespace restkv::server
