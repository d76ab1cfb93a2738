#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace restkv {

/// A prompt for models of `TinyModel`'s 256 tokens; each seed gives another.
inline std::vector<int32_t> tokens_of(size_t count, size_t seed = 1) {
  std::vector<int32_t> tokens(count);
  for (size_t i = 0; i < count; ++i) {
    tokens[i] = static_cast<int32_t>((i * i * 7 + i * 97 * seed + 31) % 256);
  }
  return tokens;
}

/// Logits are valid until a session goes on.
inline std::vector<float> copy(std::span<const float> x) { return {x.begin(), x.end()}; }

}  // namespace restkv
