#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

namespace restkv {

/// Names and meanings as in libllama. The defaults are greedy: the same prompt gives the same text.
struct SamplingOptions {
  float temperature = 0.0F;  ///< 0: always the most likely token; the filters below are skipped.
  int top_k = 40;            ///< 0: off.
  float top_p = 0.95F;       ///< 1: off.
  float min_p = 0.05F;       ///< 0: off.
  int repeat_last_n = 64;
  float repeat_penalty = 1.0F;     ///< 1: off.
  float presence_penalty = 0.0F;   ///< 0: off.
  float frequency_penalty = 0.0F;  ///< 0: off.
  uint32_t seed = 1;
};

/// Throws `Error` (kInvalidArgument) naming an option that is outside its range or not finite. The
/// seed 4294967295 is refused: libllama would draw a different seed in every run.
void validate(const SamplingOptions& options);

/// Picks the next token with libllama's sampler chain. Throws `Error` for NaN and +infinity.
class Sampler {
 public:
  /// Throws `Error` (kInvalidArgument) as `validate` does.
  Sampler(const SamplingOptions& options, size_t vocabulary);
  ~Sampler();

  /// Picks a token from logits [V] and records it for the penalties.
  int32_t sample(std::span<const float> logits);
  /// The two steps of `sample`: a token that turns out to be forbidden is not to be remembered.
  int32_t pick(std::span<const float> logits);
  void remember(int32_t token);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace restkv
