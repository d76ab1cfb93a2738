#pragma once

#include <cmath>
#include <cstddef>

namespace restkv {

/// The softmax scale: `scale`, or 1/sqrt(dim) if that is 0.
inline float softmax_scale(float scale, size_t dim) {
  return scale > 0 ? scale : 1.0F / std::sqrt(static_cast<float>(dim));
}

}  // namespace restkv
