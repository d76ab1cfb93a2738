#pragma once

#include <vector>

#include "base/json.h"
#include "server/openai/answer_options.h"
#include "server/openai/prompt.h"

namespace restkv::server {

/// `POST /v1/completions`. Answer `i * n + k` is the k-th to prompt i.
struct CompletionRequest {
  std::vector<Prompt> prompts;
  bool echo = false;  ///< Answers begin with their prompts, and logprobs with theirs.
  AnswerOptions answer;
};

/// Throws `HttpError` (400).
CompletionRequest parse_completion_request(const Json& json, const RequestLimits& limits);

}  // namespace restkv::server
