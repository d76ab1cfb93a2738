#pragma once

#include <cstddef>

#include "restkv/compress.h"
#include "restkv/views.h"

namespace restkv {

/// Whether the matrix holds neither NaN nor infinity.
bool all_finite(Matrix<const float> rows);

/// To be called once a result is known not to be finite: finds the query, key or value of one KV
/// head's group that is to blame and throws `Error` (kInput) naming tensor, head and position.
[[noreturn]] void throw_not_finite(const LayerObservation& layer, size_t kv_head, size_t window);

}  // namespace restkv
