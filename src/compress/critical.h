#pragma once

#include <cstddef>
#include <span>

#include "restkv/compress.h"

namespace restkv {

/// Throws `Error` (kInvalidArgument) unless CriticalKV's options are usable with the method.
void check_critical(const CompressionOptions& options, const Method& method);

/// CriticalKV's second stage, for scores that bound the attention of a token, where head h keeps
/// `counts[h]` candidates. The best candidates up to critical_ratio of the head's budget (protected
/// positions count first) are raised above all others. The scores of the rest become (score +
/// critical_epsilon) * ||W_h v||_1, with the norm averaged over the query heads of the cache head.
void apply_critical(const LayerObservation& layer, std::span<const size_t> counts,
                    const CompressionOptions& options, LayerScores& scores);

}  // namespace restkv
