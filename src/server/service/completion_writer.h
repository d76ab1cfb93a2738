#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/openai/completion_answer.h"
#include "server/openai/completion_request.h"
#include "server/service/answer_writer.h"

namespace restkv::server {

/// Answers of `POST /v1/completions`.
class CompletionWriter : public AnswerWriter {
 public:
  /// `prompts`: the tokens of each; needed with `echo` alone. `tokenizer` must outlive it.
  CompletionWriter(AnswerStamp stamp, const CompletionRequest& request,
                   std::vector<std::vector<int32_t>> prompts, const Tokenizer& tokenizer);

  std::string scored(size_t prompt, std::span<const TokenLogprob> logprobs) override;
  std::string write(size_t choice, const Piece& piece) override;
  std::string finish(size_t choice, const GenerationResult& result, const Usage& usage,
                     const AnswerTotals& totals) override;
  [[nodiscard]] std::string whole(const AnswerTotals& totals) const override;

 private:
  /// The prompt, if it is to be repeated and has not been.
  std::string echo(size_t choice);

  AnswerStamp stamp_;
  CompletionRequest request_;
  std::vector<std::vector<int32_t>> prompts_;
  std::vector<std::vector<NamedLogprob>> prompt_logprobs_;
  const Tokenizer& tokenizer_;
  CompletionStream stream_;
  std::vector<CompletionAnswer> answers_;
  std::vector<bool> echoed_;
};

}  // namespace restkv::server
