#pragma once

#include "linear/linear.h"

namespace restkv {

/// Row `r` of `weight` as float32, equal to ggml's conversion.
void unpack_row(const Weight& weight, size_t r, float* out);

/// y [n, end - begin] = x [n, cols] times rows [begin, end) of `weight`, for a few rows of x. Some
/// weight rows at a time are unpacked to float32 in the cache and multiplied with all rows of x.
/// Neither side is rounded. A row's result does not depend on other rows. Serial; meant for the
/// tasks of a `parallel_for`.
void multiply_unpacked(Matrix<const float> x, const Weight& weight, size_t begin, size_t end,
                       Matrix<float> y);

}  // namespace restkv
