#include "server/service/native_writer.h"

#include <utility>
#include <variant>

namespace restkv::server {
namespace {

std::string shown_prompt(const Prompt& prompt, const Tokenizer& tokenizer) {
  std::string text;
  for (const Prompt::Part& part : prompt.parts) {
    if (const auto* words = std::get_if<0>(&part)) {
      text += *words;
    } else {
      text += tokenizer.decode(std::get<1>(part), true);
    }
  }
  return text;
}

}  // namespace

NativeWriter::NativeWriter(const std::string& model, const NativeRequest& request,
                           const GenerationOptions& generation, const Tokenizer& tokenizer)
    : request_(request),
      tokenizer_(tokenizer),
      answers_(request.prompts.size() * request.answer.n) {
  for (size_t i = 0; i < answers_.size(); ++i) {
    NativeAnswer& answer = answers_[i];
    answer.index = i;
    answer.model = model;
    answer.prompt = shown_prompt(request.prompts[i / request.answer.n], tokenizer);
    answer.options = generation;
  }
}

std::string NativeWriter::begin(const TokenCounts& counts) {
  counts_.prompt = counts.prompt;
  counts_.cached = counts.cached;
  return {};
}

std::string NativeWriter::write(size_t choice, const Piece& piece) {
  NativeAnswer& answer = answers_.at(choice);
  counts_.completion += piece.tokens.size();
  std::vector<NamedLogprob> logprobs;
  for (const TokenLogprob& logprob : piece.logprobs) logprobs.push_back(named(logprob, tokenizer_));
  std::vector<int32_t> tokens;
  if (request_.return_tokens) tokens.assign(piece.tokens.begin(), piece.tokens.end());
  if (request_.answer.stream) return native_chunk(choice, piece.text, tokens, counts_, logprobs);
  answer.content += piece.text;
  answer.tokens.insert(answer.tokens.end(), tokens.begin(), tokens.end());
  answer.logprobs.insert(answer.logprobs.end(), logprobs.begin(), logprobs.end());
  return {};
}

std::string NativeWriter::finish(size_t choice, const GenerationResult& result, const Usage& usage,
                                 const AnswerTotals& totals) {
  NativeAnswer& answer = answers_.at(choice);
  answer.stop_type = stop_type(result);
  answer.stopping_word = stopping_word(result, request_.answer.generation.stop, tokenizer_);
  answer.times = {.prompt = usage.prompt_seconds, .answer = usage.decode_seconds};
  answer.totals = totals;
  answer.totals.counts = {usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens};
  return request_.answer.stream ? sse_event(native_answer(answer)) : std::string();
}

std::string NativeWriter::whole(const AnswerTotals& /*totals*/) const {
  if (answers_.size() == 1) return native_answer(answers_.front()).dump();
  Json list = Json::array();
  for (const NativeAnswer& answer : answers_) list.push_back(native_answer(answer));
  return list.dump();
}

}  // namespace restkv::server
