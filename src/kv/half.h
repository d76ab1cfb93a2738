#pragma once

#include <cstddef>
#include <cstdint>

namespace restkv {

/// Rounds `count` floats to IEEE half precision (nearest even; beyond 65504 becomes infinite).
void to_half(const float* from, size_t count, uint16_t* to);

/// The floats that halves stand for.
void from_half(const uint16_t* from, size_t count, float* to);

}  // namespace restkv
