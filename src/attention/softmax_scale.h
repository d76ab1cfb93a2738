#pragma once

#include <cmath>
#include <cstddef>

namespace restkv {

/// What logits are multiplied with: `scale` (of `AttentionOptions`, say), or 1/sqrt(dim) if it is
/// 0.
inline float softmax_scale(float scale, size_t dim) {
  return scale > 0 ? scale : 1.0F / std::sqrt(static_cast<float>(dim));
}

}  // namespace restkv
