#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "restkv/generate.h"

namespace restkv {

/// Log-softmax of logits [V].
class LogProbabilities {
 public:
  explicit LogProbabilities(std::span<const float> logits);

  [[nodiscard]] double of(int32_t token) const {
    return static_cast<double>(logits_[static_cast<size_t>(token)]) - log_sum_;
  }
  /// Whether no other token is more likely.
  [[nodiscard]] bool is_likeliest(int32_t token) const;

 private:
  std::span<const float> logits_;
  double log_sum_ = 0;
};

/// Log-probabilities of `token` and of the `likeliest` most likely tokens.
TokenLogprob logprob_of(int32_t token, std::span<const float> logits, size_t likeliest);

}  // namespace restkv
