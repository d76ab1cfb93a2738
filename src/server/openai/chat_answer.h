#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "restkv/generate.h"
#include "restkv/tokenizer.h"
#include "server/openai/answer_parts.h"
#include "server/openai/chat_request.h"
#include "server/openai/token_logprobs.h"

/// Answers of `POST /v1/chat/completions`.
namespace restkv::server {

/// What an assistant has said.
struct ChatAnswer {
  std::string content = {};
  std::string reasoning = {};
  std::vector<ToolCall> tool_calls = {};
  FinishReason finish_reason = FinishReason::kStop;
  std::vector<NamedLogprob> logprobs = {};
};

/// Some more of it.
struct ChatDelta {
  std::string content = {};
  std::string reasoning = {};
  /// Of the call `index`: a new call brings its id and its name.
  struct Call {
    size_t index = 0;
    std::string id;
    std::string name;
    std::string arguments;
  };
  std::vector<Call> calls = {};

  [[nodiscard]] bool empty() const {
    return content.empty() && reasoning.empty() && calls.empty();
  }
};

/// The whole answer, one choice for each of `answers`. `with_logprobs`: they were asked for.
Json chat_completion(const AnswerStamp& stamp, std::span<const ChatAnswer> answers,
                     bool with_logprobs, const AnswerTotals& totals);

/// The same in chunks, as server-sent events. Each choice begins with the role. The last choice to
/// end brings the object "restkv", the counts of tokens if they are wanted, and [DONE].
class ChatStream {
 public:
  ChatStream(AnswerStamp stamp, size_t choices, bool include_usage);

  /// `content` and `reasoning` may end within a UTF-8 character, which then waits for the rest.
  std::string write(size_t choice, const ChatDelta& delta,
                    std::span<const NamedLogprob> logprobs = {});
  /// `totals`: of all choices so far.
  std::string finish(size_t choice, FinishReason reason, const AnswerTotals& totals);

 private:
  struct Choice {
    Utf8Stream content;
    Utf8Stream reasoning;
    bool begun = false;
    bool has_calls = false;
  };
  [[nodiscard]] Json chunk(size_t choice, Json delta, Json logprobs, Json finish) const;
  [[nodiscard]] Json head() const;

  AnswerStamp stamp_;
  std::vector<Choice> choices_;
  size_t finished_ = 0;
  bool include_usage_;
};

}  // namespace restkv::server
