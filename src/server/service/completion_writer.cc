#include "server/service/completion_writer.h"

#include <utility>

namespace restkv::server {

CompletionWriter::CompletionWriter(AnswerStamp stamp, const CompletionRequest& request,
                                   std::vector<std::vector<int32_t>> prompts,
                                   const Tokenizer& tokenizer)
    : stamp_(std::move(stamp)),
      request_(request),
      prompts_(std::move(prompts)),
      prompt_logprobs_(request.prompts.size()),
      tokenizer_(tokenizer),
      stream_(stamp_, request.prompts.size() * request.answer.n, request.answer.include_usage),
      answers_(request.prompts.size() * request.answer.n),
      echoed_(answers_.size(), !request.echo) {}

std::string CompletionWriter::scored(size_t prompt, std::span<const TokenLogprob> logprobs) {
  std::vector<NamedLogprob>& all = prompt_logprobs_.at(prompt);
  const int32_t first = prompts_.at(prompt).front();
  all.push_back({.token = first, .piece = tokenizer_.piece(first, true), .has_logprob = false});
  for (const TokenLogprob& logprob : logprobs) all.push_back(named(logprob, tokenizer_));
  return {};
}

std::string CompletionWriter::echo(size_t choice) {
  if (echoed_.at(choice)) return {};
  echoed_[choice] = true;
  const size_t prompt = choice / request_.answer.n;
  CompletionAnswer& answer = answers_[choice];
  const std::string text = tokenizer_.decode(prompts_[prompt]);
  answer.text += text;
  const std::vector<NamedLogprob>& logprobs = prompt_logprobs_[prompt];
  answer.logprobs.insert(answer.logprobs.end(), logprobs.begin(), logprobs.end());
  return request_.answer.stream ? stream_.write(choice, text, logprobs) : std::string();
}

std::string CompletionWriter::write(size_t choice, const Piece& piece) {
  std::string events = echo(choice);
  std::vector<NamedLogprob> logprobs;
  for (const TokenLogprob& logprob : piece.logprobs) logprobs.push_back(named(logprob, tokenizer_));
  if (request_.answer.stream) return events + stream_.write(choice, piece.text, logprobs);
  CompletionAnswer& answer = answers_.at(choice);
  answer.text += piece.text;
  answer.logprobs.insert(answer.logprobs.end(), logprobs.begin(), logprobs.end());
  return {};
}

std::string CompletionWriter::finish(size_t choice, const GenerationResult& result,
                                     const Usage& /*usage*/, const AnswerTotals& totals) {
  std::string events = echo(choice);
  answers_.at(choice).finish_reason = result.finish_reason;
  if (!request_.answer.stream) return {};
  return events + stream_.finish(choice, result.finish_reason, totals);
}

std::string CompletionWriter::whole(const AnswerTotals& totals) const {
  return text_completion(stamp_, answers_, request_.answer.generation.logprobs.has_value(), totals)
      .dump();
}

}  // namespace restkv::server
