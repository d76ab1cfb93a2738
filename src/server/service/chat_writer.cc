#include "server/service/chat_writer.h"

#include <utility>

#include "server/openai/native_answer.h"

namespace restkv::server {

ChatWriter::ChatWriter(std::unique_ptr<ChatForm> form, const Tokenizer& tokenizer,
                       const std::shared_ptr<const ChatSyntax>& syntax, size_t choices,
                       std::vector<std::string> stops, const std::function<std::string()>& make_id)
    : form_(std::move(form)), tokenizer_(tokenizer), stops_(std::move(stops)) {
  choices_.reserve(choices);
  for (size_t i = 0; i < choices; ++i) choices_.push_back({.parser = ChatParser(syntax, make_id)});
}

std::string ChatWriter::write(size_t index, const Piece& piece) {
  Choice& choice = choices_.at(index);
  std::vector<NamedLogprob> logprobs;
  for (const TokenLogprob& logprob : piece.logprobs) logprobs.push_back(named(logprob, tokenizer_));
  choice.logprobs.insert(choice.logprobs.end(), logprobs.begin(), logprobs.end());
  return form_->write(index, choice.parser.push(piece.text), logprobs);
}

std::string ChatWriter::finish(size_t index, const GenerationResult& result, const Usage& /*usage*/,
                               const AnswerTotals& totals) {
  Choice& choice = choices_.at(index);
  choice.finish_reason = result.finish_reason;
  choice.stopping_word = stopping_word(result, stops_, tokenizer_);
  AnswerTotals all = totals;
  all.stopping_word = choice.stopping_word;
  const std::string rest = form_->write(index, choice.parser.end(), {});
  return rest + form_->finish(index, result.finish_reason, all);
}

std::string ChatWriter::whole(const AnswerTotals& totals) const {
  std::vector<ChatAnswer> answers;
  AnswerTotals all = totals;
  all.stopping_word = choices_.back().stopping_word;
  for (const Choice& choice : choices_) {
    ChatAnswer& answer = answers.emplace_back(choice.parser.answer());
    answer.finish_reason = choice.finish_reason;
    answer.logprobs = choice.logprobs;
  }
  return form_->whole(answers, all);
}

}  // namespace restkv::server
