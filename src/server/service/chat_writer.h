#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/openai/chat_form.h"
#include "server/openai/chat_format.h"
#include "server/service/answer_writer.h"

namespace restkv::server {

/// Answers of a chat, in any of their forms: tells content, reasoning and calls of tools apart.
class ChatWriter : public AnswerWriter {
 public:
  /// `tokenizer` must outlive it. `stops`: the client's own. `make_id`: ids of calls.
  ChatWriter(std::unique_ptr<ChatForm> form, const Tokenizer& tokenizer,
             const std::shared_ptr<const ChatSyntax>& syntax, size_t choices,
             std::vector<std::string> stops, const std::function<std::string()>& make_id);

  std::string begin(const TokenCounts& counts) override { return form_->begin(counts); }
  std::string write(size_t index, const Piece& piece) override;
  std::string finish(size_t index, const GenerationResult& result, const Usage& usage,
                     const AnswerTotals& totals) override;
  [[nodiscard]] std::string refusal(const HttpError& error) const override {
    return form_->refusal(error);
  }
  std::string fail(const HttpError& error) override { return form_->fail(error); }
  [[nodiscard]] std::string whole(const AnswerTotals& totals) const override;

 private:
  struct Choice {
    ChatParser parser;
    std::vector<NamedLogprob> logprobs = {};
    FinishReason finish_reason = FinishReason::kStop;
    std::string stopping_word = {};
  };
  std::unique_ptr<ChatForm> form_;
  const Tokenizer& tokenizer_;
  std::vector<std::string> stops_;
  std::vector<Choice> choices_;
};

}  // namespace restkv::server
