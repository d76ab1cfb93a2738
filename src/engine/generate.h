#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "restkv/sampler.h"
#include "restkv/tokenizer.h"

namespace restkv {

struct Generation {
  std::vector<int32_t> tokens;  ///< Without the end token.
  std::string text;
  double seconds = 0;  ///< Decoding only, without the prefill.
  size_t steps = 0;    ///< Decoding steps timed in `seconds`.
  bool stopped_by_caller = false;

  [[nodiscard]] double tokens_per_second() const {
    return seconds > 0 ? static_cast<double>(steps) / seconds : 0.0;
  }
};

/// Appends a token to whatever is being continued and returns the logits [V] after it.
using DecodeToken = std::function<std::span<const float>(int32_t token)>;

/// Continues after a prompt whose last logits are `logits`, until an end token, `max_tokens`, or
/// `on_text` returns false. It is called after every token with the characters that have become
/// complete, if any.
Generation generate(const DecodeToken& decode, const Tokenizer& tokenizer,
                    std::span<const float> logits, Sampler& sampler, size_t max_tokens,
                    const std::function<bool(const std::string&)>& on_text = {});

}  // namespace restkv
