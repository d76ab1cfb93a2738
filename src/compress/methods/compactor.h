#pragma once

#include <cstddef>
#include <vector>

#include "compress/leverage.h"
#include "restkv/compress.h"

namespace restkv {

/// Attention that each position gets within its chunk (`LayerObservation::watched`), averaged over
/// the group, times the norm of the value, and averaged over 3 neighbours: [kv_heads, end - first].
/// NaN for positions that were not watched.
std::vector<float> noncausal_scores(const LayerObservation& layer, size_t first, size_t end);

/// Scores of the method with given sketches, one per KV head.
LayerScores compactor_scores(const LayerObservation& layer, const CompressionOptions& options,
                             const Sketches& sketches);

}  // namespace restkv
