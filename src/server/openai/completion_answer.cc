#include "server/openai/completion_answer.h"

#include <utility>

namespace restkv::server {
namespace {

Json stamped(const AnswerStamp& stamp) {
  return Json::object({{"id", stamp.id},
                       {"object", "text_completion"},
                       {"created", stamp.created},
                       {"model", stamp.model}});
}

Json choice_json(size_t index, std::string_view text, Json logprobs, Json finish) {
  return Json::object({{"index", index},
                       {"text", text},
                       {"logprobs", std::move(logprobs)},
                       {"finish_reason", std::move(finish)}});
}

}  // namespace

Json text_completion(const AnswerStamp& stamp, std::span<const CompletionAnswer> answers,
                     bool with_logprobs, const AnswerTotals& totals) {
  Json choices = Json::array();
  for (size_t i = 0; i < answers.size(); ++i) {
    size_t offset = 0;
    Json logprobs = with_logprobs ? completion_logprobs(answers[i].logprobs, offset) : Json();
    choices.push_back(choice_json(i, answers[i].text, std::move(logprobs),
                                  finish_word(answers[i].finish_reason)));
  }
  Json json = stamped(stamp);
  json["choices"] = std::move(choices);
  json["usage"] = usage_json(totals.counts);
  if (totals.cache) json["restkv"] = cache_json(*totals.cache);
  return json;
}

CompletionStream::CompletionStream(AnswerStamp stamp, size_t choices, bool include_usage)
    : stamp_(std::move(stamp)), choices_(choices), include_usage_(include_usage) {}

Json CompletionStream::head() const { return stamped(stamp_); }

Json CompletionStream::chunk(size_t choice, std::string_view text, Json logprobs,
                             Json finish) const {
  Json json = head();
  json["choices"] =
      Json::array({choice_json(choice, text, std::move(logprobs), std::move(finish))});
  return json;
}

std::string CompletionStream::write(size_t index, std::string_view text,
                                    std::span<const NamedLogprob> logprobs) {
  Choice& choice = choices_.at(index);
  const std::string ready = choice.text.push(text);
  if (ready.empty() && logprobs.empty()) return "";
  Json list = logprobs.empty() ? Json() : completion_logprobs(logprobs, choice.offset);
  return sse_event(chunk(index, ready, std::move(list), {}));
}

std::string CompletionStream::finish(size_t index, FinishReason reason,
                                     const AnswerTotals& totals) {
  ++finished_;
  Json end = chunk(index, "", {}, finish_word(reason));
  if (finished_ < choices_.size()) return sse_event(end);
  return end_of_stream(std::move(end), head(), include_usage_, totals);
}

}  // namespace restkv::server
