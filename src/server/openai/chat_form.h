#pragma once

#include <cstddef>
#include <span>
#include <string>

#include "server/http/http_error.h"
#include "server/openai/answer_parts.h"
#include "server/openai/chat_answer.h"
#include "server/openai/token_logprobs.h"

namespace restkv::server {

/// A form in which a client gets a chat's answer: OpenAI's chat completions or responses, or
/// Anthropic's messages. One object for each request. `content` and `reasoning` of a delta may end
/// within a UTF-8 character, which then waits for the rest.
class ChatForm {
 public:
  virtual ~ChatForm() = default;

  /// The whole answer as JSON, one choice for each of `answers`.
  [[nodiscard]] virtual std::string whole(std::span<const ChatAnswer> answers,
                                          const AnswerTotals& totals) const = 0;

  // The same as a stream, each call's result being whole server-sent events, or nothing:
  /// Once, before all others: the prompt has been begun; `counts` has its tokens.
  virtual std::string begin(const TokenCounts& counts) = 0;
  virtual std::string write(size_t choice, const ChatDelta& delta,
                            std::span<const NamedLogprob> logprobs) = 0;
  /// `totals`: of all choices so far. The last choice to end ends the stream.
  virtual std::string finish(size_t choice, FinishReason reason, const AnswerTotals& totals) = 0;
  /// The body of a refusal before anything was sent.
  [[nodiscard]] virtual std::string refusal(const HttpError& error) const { return error.json(); }
  /// Ends a stream that cannot go on.
  virtual std::string fail(const HttpError& error) = 0;
};

}  // namespace restkv::server
