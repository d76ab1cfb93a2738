#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "restkv/compress.h"

namespace restkv {

/// Checks options and inputs, and scores the heads of one layer, which may hold different numbers
/// of tokens: see `select_ragged`. Throws like it.
std::vector<LayerScores> score_parts(std::span<const LayerObservation> heads,
                                     const CompressionOptions& options);

/// Candidates per head that a layer of average budget keeps, of `tokens` tokens and beside the
/// `protected_tokens` of its longest head.
size_t budget_share(size_t tokens, size_t protected_tokens, const CompressionOptions& options);

/// How many of a head's candidates may be kept at most: all, or those that reach `least_score`.
size_t eligible(std::span<const float> scores, const CompressionOptions& options);

}  // namespace restkv
