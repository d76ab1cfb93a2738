#pragma once

#include <cstddef>
#include <span>

#include "restkv/compress.h"
#include "restkv/views.h"

namespace restkv {

/// The largest change of the layer's output, over a block's queries, without each row of the range
/// that the block is about: the reconstruction error of ReST-KV (arXiv 2605.08840) for every query,
///   I[h, t, j] = A[h, t, j] / (1 - A[h, t, j]) * ||W_h (o_t - v_j)||
///   peaks[h][begin + j] = max(peaks[h][begin + j], max over t of factors[t] * I[h, t, j])
/// where A and o are those of the layer's attention: `BlockObservation::lse` and `outputs`.
///
/// `factors` [m], positive; empty: 1. `peaks` [query_heads, n]: an element that is NaN is replaced.
/// Throws `Error` (kInput) if a query, key or value is NaN or infinite.
void add_peak_errors(const BlockObservation& block, std::span<const float> factors,
                     Matrix<float> peaks);

}  // namespace restkv
