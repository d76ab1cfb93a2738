#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "restkv/generate.h"
#include "restkv/tokenizer.h"
#include "server/http/http_error.h"
#include "server/openai/answer_parts.h"
#include "server/openai/chat_answer.h"
#include "server/openai/chat_form.h"
#include "server/openai/token_logprobs.h"

namespace restkv::server {

/// Answers of `POST /v1/chat/completions`. In a stream each choice begins with the role. The last
/// choice to end brings the object "restkv", the counts of tokens if they are wanted, and [DONE].
class ChatCompletionForm : public ChatForm {
 public:
  /// `include_usage`: a stream ends with the counts. `with_logprobs`: they were asked for.
  ChatCompletionForm(AnswerStamp stamp, size_t choices, bool include_usage, bool with_logprobs);

  [[nodiscard]] std::string whole(std::span<const ChatAnswer> answers,
                                  const AnswerTotals& totals) const override;
  std::string begin(const TokenCounts& counts) override;
  std::string write(size_t index, const ChatDelta& delta,
                    std::span<const NamedLogprob> logprobs) override;
  std::string finish(size_t index, FinishReason reason, const AnswerTotals& totals) override;
  std::string fail(const HttpError& error) override;

 private:
  struct Choice {
    Utf8Stream content;
    Utf8Stream reasoning;
    bool has_calls = false;
  };
  [[nodiscard]] Json chunk(size_t choice, Json delta, Json logprobs, Json finish) const;
  [[nodiscard]] Json head() const;

  AnswerStamp stamp_;
  std::vector<Choice> choices_;
  size_t finished_ = 0;
  bool include_usage_;
  bool with_logprobs_;
};

}  // namespace restkv::server
