#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "server/openai/answer_options.h"
#include "server/openai/prompt.h"

namespace restkv::server {

/// `POST /completion`, llama.cpp's own form. Samplers that this server does not have (mirostat,
/// dry, xtc, ...) are refused where they are switched on; their order ("samplers") and where an
/// answer is computed ("id_slot") are ignored.
struct NativeRequest {
  std::vector<Prompt> prompts;
  std::string grammar;         ///< GBNF; empty: none.
  std::optional<Json> schema;  ///< The answer is JSON by this schema.
  bool cache_prompt = true;    ///< May begin with a cache that is there.
  bool return_tokens = false;
  AnswerOptions answer;
};

/// Throws `HttpError` (400).
NativeRequest parse_native_request(const Json& json, const RequestLimits& limits);

}  // namespace restkv::server
