#include "compress/cholesky.h"

#include <cmath>

namespace restkv {

void cholesky(double* a, size_t dim, size_t stride) {
  const double rounding = static_cast<double>(dim) * 0x1p-50;
  for (size_t i = 0; i < dim; ++i) {
    double* row = a + i * stride;
    const double diagonal = row[i];
    for (size_t k = 0; k < i; ++k) {  // subtract the rows of R found so far
      const double* above = a + k * stride;
      const double factor = above[i];
      for (size_t j = i; j < dim; ++j) row[j] -= factor * above[j];
    }
    const double pivot = row[i];
    const double scale = pivot > rounding * diagonal ? 1.0 / std::sqrt(pivot) : 0.0;
    for (size_t j = i; j < dim; ++j) row[j] *= scale;
  }
}

}  // namespace restkv
