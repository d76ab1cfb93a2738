#include "server/openai/completion_request.h"

#include <fmt/format.h>

namespace restkv::server {

CompletionRequest parse_completion_request(const Json& json, const RequestLimits& limits) {
  constexpr size_t kDefaultMaxTokens = 16;  // OpenAI's
  const FieldReader body(json);
  CompletionRequest request;
  request.prompts = parse_prompts(body.required("prompt", "a text, token ids, or a list of either"),
                                  body.path("prompt"), false, limits);
  request.echo = body.boolean("echo").value_or(false);
  request.answer = parse_answer_options(body, limits);
  AnswerOptions& answer = request.answer;
  // Nothing at all is only of use to those who want to hear about the prompt.
  parse_max_tokens(body, {"max_tokens", "max_completion_tokens"}, request.echo ? 0 : 1,
                   kDefaultMaxTokens, limits, answer);
  if (const auto top = body.whole("logprobs", 0, static_cast<int64_t>(limits.logprobs))) {
    answer.generation.logprobs = static_cast<size_t>(*top);
  }
  if (const auto suffix = body.text("suffix"); suffix && !suffix->empty()) {
    body.refuse("suffix", "none: text is written behind the prompt, not into a gap");
  }
  if (const auto best = body.whole("best_of", 0, 1'000'000);
      best && static_cast<size_t>(*best) != answer.n) {
    body.refuse("best_of", fmt::format("'n', {}: all answers are returned; ask for as many as you "
                                       "want to choose from",
                                       answer.n));
  }
  return request;
}

}  // namespace restkv::server
