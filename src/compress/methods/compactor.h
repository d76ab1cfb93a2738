#pragma once

#include <cstddef>
#include <vector>

#include "compress/leverage.h"
#include "restkv/compress.h"

namespace restkv {

/// Attention within chunks of `length` positions, the first of which begins at `first`: without a
/// mask, so that a position is judged by those after it, too, and without the scale 1/sqrt(d).
/// Summed over the queries of the chunk, averaged over the group, times the norm of the value, and
/// averaged over 3 neighbours: [kv_heads, end - first]. The queries are those of all positions.
std::vector<float> noncausal_scores(const LayerObservation& layer, size_t first, size_t end,
                                    size_t length);

/// Scores of the method with given sketches, one per KV head.
LayerScores compactor_scores(const LayerObservation& layer, const CompressionOptions& options,
                             const Sketches& sketches);

}  // namespace restkv
