#pragma once

#include <cstddef>

#include "restkv/compress.h"
#include "restkv/views.h"

namespace restkv {

/// Whether the matrix holds neither NaN nor infinity.
bool all_finite(Matrix<const float> rows);

/// To be called once a result is known not to be finite: finds the query, key or value of `heads`
/// KV heads from `first` on that is to blame and throws `Error` (kInput) naming tensor, head and
/// position.
[[noreturn]] void throw_not_finite(const LayerObservation& layer, size_t first, size_t heads,
                                   size_t window);

/// Throws in the same way if a value at position `first` or later is NaN or infinite.
void require_finite_values(const LayerObservation& layer, size_t first);

}  // namespace restkv
