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

/// Selects the tiles of a prompt's attention for each block of queries and keeps the statistics. A
/// pattern proposes tiles. Always kept are: tiles of rows from a session's cache, the first tile, a
/// query's own tile and the one before, and all tiles of the last queries.
class SparsePrefill {
 public:
  explicit SparsePrefill(const ModelConfig& config) : config_(config) {}

  /// Sets the options and begins a new report. Throws `Error` (kInvalidArgument) as `validate`
  /// does.
  void set(const SparseOptions& options);
  [[nodiscard]] const SparseReport& report() const { return report_; }

  /// Starts a layer of n new tokens, the last `dense_rows` of which must stay dense. Returns false
  /// if the whole layer stays dense, as one with biases does, of which patterns know nothing; the
  /// functions below must then not be called for it.
  bool begin_layer(size_t layer, const AttentionOptions& attention, size_t n, size_t dense_rows,
                   LayerKv& kv);
  /// Whether `look_ahead` must be called before the first block.
  [[nodiscard]] bool looks_ahead() const { return pattern_->looks_ahead; }
  /// Prepares the pattern. `kv` has all keys of the layer; `last_queries` [query_heads, m, d] are
  /// the queries of its last rows.
  void look_ahead(Heads<const float> last_queries, LayerKv& kv);

  /// Sets the masks of the parts of `kv` for queries [query_heads, m, d]. Row i is new token `first
  /// + i`; `first` is a multiple of 64. Returns the destination of the log-sum-exps (LSE) of
  /// attention: `lse`, or own memory if that is empty and they are needed.
  Matrix<float> begin_block(Heads<const float> queries, LayerKv& kv, size_t first,
                            Matrix<float> lse);
  /// Ends a block after its attention.
  void end_block(Heads<const float> queries, LayerKv& kv, size_t first, Matrix<const float> lse);

 private:
  /// Pattern and mask of a part of the layer's heads.
  struct Part {
    std::unique_ptr<LayerPattern> pattern;
    std::vector<uint8_t> marks;
  };

  /// Marks the tiles that are always kept, for rows [first, first + rows) of new tokens.
  void mark_always(const LayerKv::Part& part, size_t prefix, size_t first, size_t rows,
                   TileMarks marks) const;
  /// Counts the tiles of query heads [head, head + heads) for queries from key row `row` on.
  void count(size_t head, size_t heads, size_t row, size_t rows, const TileMask& mask);
  void measure(Heads<const float> queries, LayerKv& kv, size_t first, Matrix<const float> lse);
  /// Logarithms of the softmax denominators over all keys, [query_heads, rows], for `rows` of a
  /// block of queries. Row 0 of the block is key row `first`.
  [[nodiscard]] AlignedVector<float> exact_lse(Heads<const float> queries,
                                               std::span<const size_t> rows,
                                               Heads<const float> keys, Heads<const float> values,
                                               size_t first) const;
  /// The report's entry for query head h of the current layer.
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
