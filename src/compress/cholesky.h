#pragma once

#include <cstddef>

namespace restkv {

/// R with R^T R = a, upper triangular, computed in place; `a` [dim, dim] is symmetric, and only its
/// upper triangle is read. Row i begins at a + i * stride. A semi-definite matrix has pivots that
/// vanish up to rounding; their rows of R are zero.
void cholesky(double* a, size_t dim, size_t stride);

}  // namespace restkv
