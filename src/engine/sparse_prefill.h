#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "attention/sparse/pattern.h"
#include "base/stopwatch.h"
#include "engine/layer_kv.h"
#include "restkv/aligned.h"
#include "restkv/model.h"
#include "restkv/sparse.h"

namespace restkv {

/// Decides, block of queries by block, which tiles of a prompt's attention are computed, and keeps
/// the account. A pattern proposes; in any case are kept: tiles of rows from a session's cache, the
/// first tile, those up to one before a query's own, and all of the last queries.
class SparsePrefill {
 public:
  explicit SparsePrefill(const ModelConfig& config) : config_(config) {}

  /// Throws `Error` (kInvalidArgument). Begins a new report.
  void set(const SparseOptions& options);
  [[nodiscard]] const SparseReport& report() const { return report_; }

  /// Starts a layer of n new tokens, the last `dense_rows` of which must stay dense. False: all of
  /// it stays dense, and no block of it may be given to the functions below.
  bool begin_layer(size_t layer, const AttentionOptions& attention, size_t n, size_t dense_rows,
                   LayerKv& kv);
  /// Whether `look_ahead` must be called before the first block.
  [[nodiscard]] bool looks_ahead() const { return pattern_->looks_ahead; }
  /// All keys of the layer are in `kv`; `last_queries` [query_heads, m, d] are those of its last
  /// rows.
  void look_ahead(Heads<const float> last_queries, LayerKv& kv);

  /// Sets the masks of the parts of `kv` for queries [query_heads, m, d], row i being new token
  /// `first + i`, a multiple of 64. Returns where attention is to leave its log-sum-exps (LSE):
  /// `lse`, or a place of its own if that is empty and they are needed.
  Matrix<float> begin_block(Heads<const float> queries, LayerKv& kv, size_t first,
                            Matrix<float> lse);
  /// After attention.
  void end_block(Heads<const float> queries, LayerKv& kv, size_t first, Matrix<const float> lse);

 private:
  /// What belongs to a part of the layer's keys.
  struct Part {
    std::unique_ptr<LayerPattern> pattern;
    std::vector<uint8_t> marks;
  };

  /// Adds what is kept in any case, for rows [first, first + rows) of new tokens.
  void mark_always(const LayerKv::Part& part, size_t prefix, size_t first, size_t rows,
                   TileMarks marks) const;
  /// Counts the tiles of query heads [head, head + heads) for queries from key row `row` on.
  void count(size_t head, size_t heads, size_t row, size_t rows, const TileMask& mask);
  void measure(Heads<const float> queries, LayerKv& kv, size_t first, Matrix<const float> lse);
  /// Logarithms of the softmax denominators over all keys, [query_heads, rows], for these rows of a
  /// block of queries whose row 0 stands at key row `first`.
  [[nodiscard]] AlignedVector<float> exact_lse(Heads<const float> queries,
                                               std::span<const size_t> rows,
                                               Heads<const float> keys, Heads<const float> values,
                                               size_t first) const;
  /// The report's entry for query head h of the layer in the works.
  SparseReport::Head& entry(size_t h) { return report_.heads[layer_ * config_.query_heads + h]; }

  const ModelConfig& config_;
  SparseOptions options_;
  const SparsePattern* pattern_ = nullptr;  // none: dense
  SparseReport report_;

  size_t layer_ = 0;
  AttentionOptions attention_;
  size_t dense_from_ = 0;  // first new token whose attention stays dense, a multiple of 64
  std::vector<Part> parts_;
  AlignedVector<float> lse_;
  Stopwatch search_, attending_;
};

}  // namespace restkv
