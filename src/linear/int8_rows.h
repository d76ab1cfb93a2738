#pragma once

#include <cstddef>
#include <cstdint>

namespace restkv {

/// Rounds `n` floats to whole numbers of -127 to 127 times a step that fits the largest of them.
/// Returns the step: NaN if some number is infinite or NaN, so that products still show it.
float round_to_int8(const float* x, size_t n, int8_t* out);

/// Turns a row of 32-bit sums, which lie where the floats are to be, into floats: y[i] = step *
/// steps[i] * sum[i].
void scale_sums(float* y, size_t n, float step, const float* steps);

}  // namespace restkv
