#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/ops.h"
#include "restkv/aligned.h"
#include "restkv/compress.h"
#include "restkv/engine.h"
#include "restkv/model.h"
#include "restkv/views.h"

namespace restkv {

/// Gathers, block by block of a prompt, what the methods of all requests look at in a layer besides
/// keys and values, and nothing else: the last queries, the attention that positions receive, and
/// the moments of the queries before rotary embedding.
class LayerObserver {
 public:
  /// For a prompt of n tokens; the table grows to the positions that methods look ahead to.
  LayerObserver(const Model& model, std::span<const CacheRequest> requests, size_t n,
                RopeTable& rope);

  /// Whether the attention of every position is needed, even where nobody needs its output.
  [[nodiscard]] bool needs_all_rows() const { return !sums_.empty(); }

  void begin_layer();
  /// Where attention is to leave the log-sums of a block of `rows`: [query_heads, rows], or an
  /// empty view if nobody needs them.
  Matrix<float> log_sums(size_t rows);
  /// Takes a block's queries in, after its attention. Row i stands at position `first + i`; keys
  /// are there up to the last of them.
  void add(Heads<const float> queries, Heads<const float> keys, size_t first);

  /// What request `i` may look at, keys and values excepted.
  [[nodiscard]] LayerObservation observation(size_t i, size_t layer);

 private:
  struct Moments {
    size_t request;
    size_t skipped;  ///< First positions that do not count.
    QueryStatistics statistics;
    MeanRotation rotation;
  };

  void add_moments(Heads<const float> queries, size_t first);

  const Model& model_;
  std::span<const CacheRequest> requests_;
  const RopeTable& rope_;
  size_t n_;
  size_t observed_ = 0;           ///< Last queries that are kept.
  AlignedVector<float> queries_;  ///< [query_heads, observed, d].
  AlignedVector<float> log_sums_, sums_;
  AlignedVector<float> unrotated_;
  std::vector<Moments> moments_;
  AlignedVector<float> output_weights_;
};

}  // namespace restkv
