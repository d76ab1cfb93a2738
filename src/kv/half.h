#pragma once

#include <cstddef>
#include <cstdint>

namespace restkv {

/// The largest number that a half holds, and the least that is rounded to infinity.
inline constexpr float kLargestHalf = 65504.0F;
inline constexpr float kLeastInfinite = 65520.0F;

/// Rounds `count` floats to IEEE half precision (nearest even; beyond `kLargestHalf` becomes
/// infinite). Whether all of the halves are finite.
bool to_half(const float* from, size_t count, uint16_t* to);

/// The floats that halves stand for.
void from_half(const uint16_t* from, size_t count, float* to);

}  // namespace restkv
