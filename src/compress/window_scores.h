#pragma once

#include <optional>
#include <span>

#include "base/threads.h"
#include "restkv/compress.h"
#include "restkv/stages.h"

namespace restkv {

/// Scoring of past positions from the observation window.
struct WindowScoring {
  /// Weight of each window row, oldest first, in the sum that is scored.
  std::span<const float> coefficients;
  /// Turns the sums of all query heads, [query_heads, n], into scores of the past positions, in
  /// place; may be null.
  void (*finish)(const LayerObservation&, const CompressionOptions&,
                 std::span<const float> coefficients, Matrix<float> sums) = nullptr;
  /// Replaces the sums in methods that need individual rows: fills raw [group, past] of one KV
  /// head; may be null.
  void (*score_rows)(const LayerObservation&, const CompressionOptions&, const WindowAttention&,
                     size_t kv_head, std::span<const float> coefficients,
                     Matrix<float> raw) = nullptr;
};

/// Smooths a row of scores as the options `pooling`, `kernel` and `drift_scale` say and returns the
/// window. `out` has the size of `raw`. Without a drift the window stays centred.
PoolingWindow smooth_row(const CompressionOptions& options, std::optional<float> drift,
                         std::span<const float> raw, std::span<float> out);

/// Common part of methods that score past positions from the observation window and protect it:
/// attend -> score -> smooth and reduce over the group.
LayerScores score_by_window(const LayerObservation& layer, const CompressionOptions& options,
                            const WindowScoring& scoring, SelectionTrace* trace);

}  // namespace restkv
