#pragma once

#include <cstddef>
#include <cstdint>

namespace restkv {

/// The largest finite half, and the smallest number that is rounded to infinity.
inline constexpr float kLargestHalf = 65504.0F;
inline constexpr float kLeastInfinite = 65520.0F;

/// Rounds `count` floats to IEEE half precision, to nearest even; numbers from `kLeastInfinite` on
/// become infinite. Returns whether all halves are finite.
bool to_half(const float* from, size_t count, uint16_t* to);

/// Converts halves to floats.
void from_half(const uint16_t* from, size_t count, float* to);

}  // namespace restkv
