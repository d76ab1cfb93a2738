#pragma once

#include <cstddef>

#include "restkv/compress.h"
#include "restkv/views.h"

namespace restkv {

/// Whether the matrix holds neither NaN nor infinity.
bool all_finite(Matrix<const float> rows);

/// Finds the query, key or value of `heads` KV heads from `first` on that made a result infinite or
/// NaN, and throws `Error` (kInput) naming tensor, head and position.
[[noreturn]] void throw_not_finite(const LayerObservation& layer, size_t first, size_t heads,
                                   size_t window);

/// The same for the queries and keys of a block.
[[noreturn]] void throw_not_finite(const BlockObservation& block);

/// Throws `Error` (kInput) in the same form if a value at position `first` or later is not finite.
void require_finite_values(const LayerObservation& layer, size_t first);

}  // namespace restkv
