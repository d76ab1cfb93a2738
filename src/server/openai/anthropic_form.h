#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

#include "base/json.h"
#include "server/openai/sequential_form.h"

namespace restkv::server {

/// {"type": "error", "error": {"type", "message"}}: what Anthropic's clients look for in a refusal
/// of these routes.
std::string anthropic_error(const HttpError& error);

/// Answers of `POST /v1/messages`. `input_tokens` are those that were read for this request, beside
/// `cache_read_input_tokens`. Arguments of a call that are no JSON object, as of an answer that was
/// cut, become an object with the field "arguments", so that no tool takes them for complete; a
/// stream has them as they are.
class AnthropicForm : public SequentialForm {
 public:
  /// `stamp.id`: "msg_...".
  explicit AnthropicForm(AnswerStamp stamp);

  [[nodiscard]] std::string whole(std::span<const ChatAnswer> answers,
                                  const AnswerTotals& totals) const override;
  std::string begin(const TokenCounts& counts) override;
  std::string finish(size_t choice, FinishReason reason, const AnswerTotals& totals) override;
  std::string fail(const HttpError& error) override;
  [[nodiscard]] std::string refusal(const HttpError& error) const override {
    return anthropic_error(error);
  }

 protected:
  std::string begin_part(Part part, const ChatDelta::Call& call) override;
  std::string write_part(std::string_view text) override;
  std::string end_part(bool is_cut) override;

 private:
  [[nodiscard]] Json message(Json content, const TokenCounts& counts) const;

  AnswerStamp stamp_;
  Part part_ = Part::kText;
  size_t index_ = 0;  ///< Of the block that is open, or the next.
};

/// The answer to `POST /v1/messages/count_tokens`.
Json anthropic_count_json(size_t tokens);

}  // namespace restkv::server
