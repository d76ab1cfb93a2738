#pragma once

#include <cstddef>

#include "base/threads.h"
#include "restkv/compress.h"
#include "restkv/stages.h"

namespace restkv {

/// Fills raw [group, past] with the scores of one KV head's query heads; larger is kept.
using GroupScorer = FunctionRef<void(WindowAttention&, size_t kv_head, Matrix<float> raw)>;

/// What all methods share that score past positions from the observation window, which they
/// protect: attend -> score -> smooth and reduce over the group.
LayerScores score_by_window(const LayerObservation& layer, const CompressionOptions& options,
                            GroupScorer score, SelectionTrace* trace);

}  // namespace restkv
