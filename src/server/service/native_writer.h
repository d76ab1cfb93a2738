#pragma once

#include <string>
#include <vector>

#include "server/openai/native_answer.h"
#include "server/openai/native_request.h"
#include "server/service/answer_writer.h"

namespace restkv::server {

/// Answers of `POST /completion`.
class NativeWriter : public AnswerWriter {
 public:
  /// `tokenizer` must outlive it.
  NativeWriter(const std::string& model, const NativeRequest& request,
               const GenerationOptions& generation, const Tokenizer& tokenizer);

  std::string begin(const TokenCounts& counts) override;
  std::string write(size_t choice, const Piece& piece) override;
  std::string finish(size_t choice, const GenerationResult& result, const Usage& usage,
                     const AnswerTotals& totals) override;
  [[nodiscard]] std::string whole(const AnswerTotals& totals) const override;

 private:
  NativeRequest request_;
  const Tokenizer& tokenizer_;
  TokenCounts counts_;  ///< While it is written.
  std::vector<NativeAnswer> answers_;
};

}  // namespace restkv::server
