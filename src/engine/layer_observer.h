#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "engine/layer_kv.h"
#include "engine/layer_state.h"
#include "model/ops.h"
#include "restkv/aligned.h"
#include "restkv/compress.h"
#include "restkv/model.h"
#include "restkv/views.h"

namespace restkv {

/// Gathers, block by block of a prompt, what the methods of all requests look at in a layer besides
/// keys and values, and nothing else: the last queries, the attention that positions receive, and
/// the moments of the queries before rotary embedding.
class LayerObserver {
 public:
  /// For n tokens from `position` on, which the methods of all `requests` will look at.
  /// A request that keeps them all looks at nothing, unless `remember` says that its cache will be
  /// compressed later.
  LayerObserver(const Model& model, std::vector<const CompressionOptions*> requests, size_t n,
                RopeTable& rope, size_t position = 0, bool remember = false);

  /// The same table in another place, from now on.
  void work_with(RopeTable& rope) { rope_ = &rope; }

  /// Whether the attention of every position is needed, even where nobody needs its output.
  [[nodiscard]] bool needs_all_rows() const { return sums_; }

  /// Last queries of the prompt that some request looks at.
  [[nodiscard]] size_t observed_rows() const { return observed_; }

  /// Starts a layer of `rows` rows, of which `prefix` are older. `memory` is what was remembered of
  /// them, with sums for `prefix` rows; null: nothing.
  void begin_layer(size_t rows, size_t prefix = 0, LayerState* memory = nullptr);
  /// Where attention is to leave the log-sum-exps (LSE) of `rows` new tokens up to `end`:
  /// [query_heads, rows], or an empty view if nobody needs them.
  Matrix<float> lse(size_t rows, size_t end);
  /// Takes a block's queries in, after its attention, and the outputs of the last of them. Row i is
  /// new token `first + i`; keys are there up to the last of them.
  void add(Heads<const float> queries, Heads<const float> outputs, LayerKv& kv, size_t first);

  /// What request `i` may look at, keys and values excepted.
  [[nodiscard]] LayerObservation observation(size_t i, size_t layer);

 private:
  /// What attention leaves of the last new tokens, gathered from blocks.
  class LastRows {
   public:
    /// Starts afresh for the last `count` of n tokens.
    void begin(size_t n, size_t heads, size_t count, size_t dim);
    /// The last rows of a block that ends before token `end`. Of the last layer, not all are there.
    void add(Heads<const float> block, size_t end);
    /// Whether all of the last tokens have theirs.
    [[nodiscard]] bool complete() const { return count_ == rows_.rows; }
    [[nodiscard]] const Heads<float>& rows() const { return rows_; }

   private:
    AlignedVector<float> memory_;
    Heads<float> rows_;
    size_t first_ = 0;  ///< Token of the first row.
    size_t count_ = 0;  ///< How many rows are there, without a gap.
  };

  struct Moments {
    size_t request;
    size_t skipped;  ///< First positions that do not count.
    MeanRotation rotation;
  };

  void add_moments(Heads<const float> queries, size_t first);

  const Model& model_;
  std::vector<const CompressionOptions*> requests_;
  RopeTable* rope_;
  size_t n_;
  size_t position_;
  bool remember_;
  bool sums_ = false;
  size_t observed_ = 0;   ///< Last queries that are kept.
  Heads<float> queries_;  ///< Where those of the new tokens go.
  size_t rows_ = 0;
  size_t prefix_ = 0;
  LayerState own_;
  LayerState* memory_ = &own_;
  Matrix<float> lse_;  ///< Of the last block that left them.
  AlignedVector<float> lse_storage_;
  LastRows query_lse_;           ///< [query_heads, queries_.rows, 1]
  size_t observed_outputs_ = 0;  ///< Outputs of the last queries that are kept.
  LastRows outputs_;             ///< [query_heads, observed_outputs_, d]
  AlignedVector<float> unrotated_;
  std::vector<Moments> moments_;
  AlignedVector<float> output_weights_;
};

}  // namespace restkv
