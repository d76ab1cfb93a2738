#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "restkv/compress.h"

namespace restkv {

// Every allocation has a file of its own and is listed in registry.cc.
Allocation uniform_allocation();
Allocation pyramid_allocation();
Allocation ada_allocation();
Allocation ada_pyramid_allocation();
Allocation global_allocation();
Allocation cake_allocation();
Allocation profile_allocation();

/// Throws `Error` (kInvalidArgument) unless pyramid_beta is usable.
void check_pyramid(const CompressionOptions& options);

/// Candidates that each cache head of this layer keeps under `pyramid`.
size_t pyramid_count(const LayerObservation& layer, const LayerScores& scores, size_t share,
                     const CompressionOptions& options);

/// kvpress's pyramid in tokens per head, protected positions included, for `tokens` per head on
/// average (a real number: length times one minus the compression ratio).
size_t kvpress_pyramid_tokens(double tokens, size_t length, size_t window, int beta, size_t layer,
                              size_t layers);

/// Rounds `shares` to integers with the sum `total` by the largest remainder method (Hamilton): all
/// are rounded down, then those with the largest remainders get one more, the first of equal ones.
/// Shares must be non-negative and sum up to `total` except for rounding.
std::vector<size_t> apportion(std::span<const double> shares, size_t total);

}  // namespace restkv
