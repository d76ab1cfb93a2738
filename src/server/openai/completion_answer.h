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
#include "server/openai/token_logprobs.h"

/// Answers of `POST /v1/completions`.
namespace restkv::server {

struct CompletionAnswer {
  std::string text;  ///< With `echo`, from the prompt on; so are the logprobs.
  FinishReason finish_reason = FinishReason::kStop;
  std::vector<NamedLogprob> logprobs;
};

/// The whole answer, one choice for each of `answers`.
Json text_completion(const AnswerStamp& stamp, std::span<const CompletionAnswer> answers,
                     bool with_logprobs, const AnswerTotals& totals);

/// The same in chunks, as server-sent events. What ends it: `ChatCompletionForm`.
class CompletionStream {
 public:
  CompletionStream(AnswerStamp stamp, size_t choices, bool include_usage);

  /// `text` may end within a UTF-8 character, which then waits for the rest.
  std::string write(size_t index, std::string_view text,
                    std::span<const NamedLogprob> logprobs = {});
  /// `totals`: of all choices so far.
  std::string finish(size_t index, FinishReason reason, const AnswerTotals& totals);

 private:
  struct Choice {
    Utf8Stream text;
    size_t offset = 0;  ///< Characters of the tokens so far.
  };
  [[nodiscard]] Json head() const;
  [[nodiscard]] Json chunk(size_t choice, std::string_view text, Json logprobs, Json finish) const;

  AnswerStamp stamp_;
  std::vector<Choice> choices_;
  size_t finished_ = 0;
  bool include_usage_;
};

}  // namespace restkv::server
