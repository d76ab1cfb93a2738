#pragma once

#include <cstddef>
#include <span>

#include "restkv/compress.h"

namespace restkv {

/// Throws `Error` (kInvalidArgument) unless CriticalKV's options are usable with the method.
void check_critical(const CompressionOptions& options, const Method& method);

/// CriticalKV's second stage, for scores that bound how much attention a token takes and
/// `counts[h]` candidates to be kept by head h: the best candidates up to critical_ratio of the
/// head's budget (protected positions come first) are raised above all others, and the scores of
/// the rest become (score + critical_epsilon) * ||W_h v||_1, the norm averaged over the query heads
/// of the cache head.
void apply_critical(const LayerObservation& layer, std::span<const size_t> counts,
                    const CompressionOptions& options, LayerScores& scores);

}  // namespace restkv
