#pragma once

#include <cstddef>
#include <span>

#include "restkv/compress.h"
#include "restkv/views.h"

namespace restkv {

/// The largest attention weights that a block's queries pay each row of the range that the block is
/// about. The softmax of a query covers the first min(sinks, begin) rows of the context, the range,
/// and the own keys that it sees (KVzip, arXiv 2505.23416):
///   peaks[h][begin + j] = max(peaks[h][begin + j], max over t of factors[t] * A[h, t, j])
///
/// A block with `lse` has seen just that, and its denominators are taken from there.
///
/// `factors` [m], positive; empty: 1. `peaks` [query_heads, n]: an element that is NaN is replaced.
/// Throws `Error` (kInput) if a query or a key is NaN or infinite.
void add_peak_attention(const BlockObservation& block, size_t sinks, std::span<const float> factors,
                        Matrix<float> peaks);

}  // namespace restkv
