#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "base/threads.h"
#include "restkv/compress.h"

namespace restkv {

/// Scores per KV head: `score(kv_head, row)` fills row [candidates], for all KV heads in parallel.
/// With `per_query_head` every query head gets the row of its KV head.
LayerScores score_kv_heads(const LayerObservation& layer, const CompressionOptions& options,
                           size_t candidates,
                           FunctionRef<void(size_t kv_head, std::span<float> row)> score);

/// Lets the first `sinks` positions win against every other position of every head.
void raise_sinks(LayerScores& scores, size_t sinks);

/// Fills scores [rows] of one head from its keys and values alone.
using HeadScorer = FunctionRef<void(Matrix<const float> keys, Matrix<const float> values,
                                    std::span<float> scores)>;

/// Scores of all positions. With `block_size` the prompt is processed in blocks (NVIDIA kvpress,
/// BlockPress): the first `budget` positions are kept; then, block after block, the kept positions
/// and the block are scored again and the best `budget` are kept. Positions kept at the end score
/// 1, others 0.
LayerScores score_keys_and_values(const LayerObservation& layer, const CompressionOptions& options,
                                  HeadScorer score);

/// Throws `Error` (kInvalidArgument) unless block_size >= 0, and the allocation is uniform if it is
/// not 0.
void check_blocks(const CompressionOptions& options);

/// Turns logits into softmax weights, in place. The logit of a sink takes its part of them.
void softmax(std::span<float> logits, std::optional<float> sink = std::nullopt);

/// Throws `Error` (kInvalidArgument) unless 0 <= protected tokens < budget; `what` names them.
void check_protected(const CompressionOptions& options, const char* what, int count);
/// The same of window and sinks together.
void check_window_and_sinks(const CompressionOptions& options);

}  // namespace restkv
