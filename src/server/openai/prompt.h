#pragma once

#include <cstdint>
#include <string>
#include <variant>
#include <vector>

#include "base/json.h"
#include "restkv/tokenizer.h"
#include "server/openai/limits.h"

namespace restkv::server {

/// A prompt as it was sent: a text, token ids, or a mixture of both.
struct Prompt {
  using Part = std::variant<std::string, std::vector<int32_t>>;
  std::vector<Part> parts;
  bool operator==(const Prompt&) const = default;
};

/// Its tokens, behind a begin-of-text with `add_special`. Control tokens in texts are control
/// tokens: the client writes the template itself. Throws `Error` (kInput) on a text that cannot be
/// encoded.
std::vector<int32_t> encode(const Prompt& prompt, const Tokenizer& tokenizer,
                            bool add_special = true);

/// A text, a list of texts, token ids, or a list of lists of ids. `mixed`: texts and ids within one
/// list are one prompt (llama.cpp). Throws `HttpError` (400), also for empty prompts of ids.
std::vector<Prompt> parse_prompts(const Json& value, const std::string& path, bool mixed,
                                  const RequestLimits& limits);
/// A list of token ids, below the vocabulary. Throws `HttpError` (400).
std::vector<int32_t> parse_token_ids(const Json& list, const std::string& path,
                                     const RequestLimits& limits);

}  // namespace restkv::server
