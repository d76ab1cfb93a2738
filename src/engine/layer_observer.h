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

/// Collects the inputs of methods besides keys and values, block by block of a prompt and only as
/// far as the requests need them: the last queries, the attention that positions receive, and the
/// statistics of the queries before rotary embedding.
class LayerObserver {
 public:
  /// Observes n tokens from `position` on for the methods of all `requests`. A request whose budget
  /// keeps all of them needs nothing, unless `remember` is set: its cache may be compressed later.
  LayerObserver(const Model& model, std::vector<const CompressionOptions*> requests, size_t n,
                RopeTable& rope, size_t position = 0, bool remember = false);

  /// Replaces the table by an equal one in another workspace.
  void work_with(RopeTable& rope) { rope_ = &rope; }

  /// Whether the attention of every position is needed, even without its output.
  [[nodiscard]] bool needs_all_rows() const { return all_rows_; }

  /// Number of last queries that a request needs.
  [[nodiscard]] size_t observed_rows() const { return observed_; }

  /// Starts a layer of `rows` rows, the first `prefix` of them from the cache. `memory` is the
  /// state of these, with sums for `prefix` rows; null: none.
  void begin_layer(size_t rows, size_t prefix = 0, LayerState* memory = nullptr);
  /// Destination of the log-sum-exps (LSE) of `rows` new tokens up to `end`: [query_heads, rows],
  /// or an empty view if they are not needed.
  Matrix<float> lse(size_t rows, size_t end);
  /// Adds a block's queries after its attention, and the outputs of the last of them. Row i is new
  /// token `first + i`; `kv` has the keys up to the last of them. `inputs` [m, C]: see
  /// `BlockObservation`.
  void add(Heads<const float> queries, Heads<const float> outputs, LayerKv& kv, size_t first,
           Matrix<const float> inputs, size_t layer);

  /// Whether a request needs a repeat pass, and how many tokens are fed in it.
  [[nodiscard]] bool needs_repeat() const {
    return watches(WatchedTokens::kRepeat) || !repeat_queries_.empty();
  }
  void expect_fed(size_t tokens) { fed_tokens_ = tokens; }
  /// Whether the outputs of fed tokens are needed, and the destination of their LSE.
  [[nodiscard]] bool needs_fed_outputs() const { return fed_outputs_; }
  Matrix<float> fed_lse(size_t rows);
  /// Shows a block of fed tokens to the methods that watch the repeat pass, as `add` shows the
  /// prompt's own tokens to those that watch these. `inputs` [m, C]; their keys are the last of the
  /// first `fed` guests of `kv`; they repeat the new tokens [begin, end).
  void add_fed(Heads<const float> queries, Heads<const float> outputs, Matrix<const float> inputs,
               LayerKv& kv, size_t layer, size_t fed, size_t begin, size_t end);

  /// Inputs of the method of request `i`, without keys and values.
  [[nodiscard]] LayerObservation observation(size_t i, size_t layer);
  /// The keys of `kv` before rotary embedding, if the method of request `i` reads them; else an
  /// empty view. Valid until the next call.
  [[nodiscard]] Heads<const float> unrotated_keys(size_t i, size_t layer, LayerKv& kv);

 private:
  /// Results of attention for the last new tokens, collected from blocks.
  class LastRows {
   public:
    /// Starts again, for the last `count` of n tokens.
    void begin(size_t n, size_t heads, size_t count, size_t dim);
    /// Adds the last rows of a block that ends before token `end`. In the last layer, a block may
    /// have fewer rows than tokens.
    void add(Heads<const float> block, size_t end);
    /// Whether all `count` tokens have a row.
    [[nodiscard]] bool complete() const { return count_ == rows_.rows; }
    [[nodiscard]] const Heads<float>& rows() const { return rows_; }

   private:
    AlignedVector<float> memory_;
    Heads<float> rows_;
    size_t first_ = 0;  ///< Token of the first row.
    size_t count_ = 0;  ///< Rows so far, without a gap.
  };

  struct ObservedQueries {
    size_t request;
    size_t skipped;  ///< First positions that are left out.
    MeanRotation rotation;
  };

  /// Queries of the repeat pass that a request needs, spread evenly over it.
  struct RepeatQueries {
    size_t request;
    size_t wanted;
    AlignedVector<float> memory = {};
    Heads<float> rows = {};
    size_t count = 0;  ///< So far.
  };

  struct Watch {
    size_t request;
    WatchedTokens tokens;
  };

  [[nodiscard]] bool watches(WatchedTokens tokens) const;
  /// Fed token of row i of some repeat queries.
  [[nodiscard]] size_t fed_token(const RepeatQueries& queries, size_t i) const {
    return (2 * i + 1) * fed_tokens_ / (2 * queries.rows.rows);
  }
  /// Shows a block to the methods that watch such tokens, for each part of the heads. Its rows,
  /// and those of its keys, begin with the padding.
  void show(WatchedTokens tokens, const BlockObservation& block, LayerKv& kv);
  void add_query_statistics(Heads<const float> queries, size_t first, size_t layer);

  const Model& model_;
  std::vector<const CompressionOptions*> requests_;
  RopeTable* rope_;
  size_t n_;
  size_t position_;
  bool remember_;
  bool sums_ = false;
  bool all_rows_ = false;  ///< Sums, or a method that watches the outputs of all tokens.
  size_t observed_ = 0;    ///< Number of last queries that are kept.
  Heads<float> queries_;   ///< Destination of those of the new tokens.
  size_t rows_ = 0;
  size_t prefix_ = 0;
  LayerState own_;
  LayerState* memory_ = &own_;
  Matrix<float> lse_;  ///< Of the current block.
  AlignedVector<float> lse_storage_;
  LastRows query_lse_;           ///< [query_heads, queries_.rows, 1]
  size_t observed_outputs_ = 0;  ///< Number of last outputs that are kept.
  LastRows outputs_;             ///< [query_heads, observed_outputs_, d]
  AlignedVector<float> unrotated_;
  AlignedVector<float> unrotated_keys_;
  std::vector<ObservedQueries> query_statistics_;
  std::vector<std::vector<MeanRotation>> rotations_;  ///< Of positions to come, for each request.
  /// The same of layers without rotary embedding, as many as a request may need.
  std::vector<MeanRotation> still_;
  std::vector<Watch> watches_;
  std::vector<RepeatQueries> repeat_queries_;
  size_t fed_tokens_ = 0;  ///< Of all feeds.
  size_t fed_so_far_ = 0;  ///< In this layer.
  bool fed_outputs_ = false;
  AlignedVector<float> output_weights_;
};

}  // namespace restkv
