#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/kv_cache.h"
#include "restkv/model.h"
#include "restkv/views.h"

namespace restkv {

/// Float32 keys and values of the current layer: rows of a cache, then new tokens. Heads of a cache
/// may hold different numbers of rows. All heads end where the new tokens begin, so short heads
/// start with `padding` rows without content.
class LayerKv {
 public:
  /// Cache heads [head, head + heads) with equal numbers of rows.
  struct Part {
    size_t head = 0;
    size_t heads = 0;
    size_t padding = 0;
    /// Mask of the current block of queries over the rows behind the padding; empty: all tiles.
    TileMask mask = {};
  };

  /// Reads the rows of a layer from `cache` (null: none) and makes room for n tokens with positions
  /// from `position` on, and for `guests` behind them.
  void begin(const ModelConfig& config, const KvCache* cache, size_t layer, size_t n,
             size_t position, size_t guests = 0);
  /// Lets guests in or out: tokens that attend to the layer without becoming a part of it. Their
  /// rows follow the others.
  void admit_guests() { rows_ = room_; }
  void dismiss_guests() { rows_ = owned_; }

  /// Rows in front of the new tokens.
  [[nodiscard]] size_t prefix() const { return prefix_; }
  /// Prefix and new tokens.
  [[nodiscard]] size_t owned() const { return owned_; }
  /// All rows, those of guests included.
  [[nodiscard]] size_t rows() const { return rows_; }
  [[nodiscard]] size_t heads() const { return heads_; }
  [[nodiscard]] std::span<const Part> parts() const { return parts_; }
  [[nodiscard]] std::span<Part> parts() { return parts_; }
  /// The heads of a part of `x` [heads, rows, d], without padding.
  [[nodiscard]] Heads<const float> visible(const Part& part, Heads<float> x) const {
    return x.slice_heads(part.head, part.heads).slice_rows(part.padding, rows_ - part.padding);
  }
  /// [heads, rows, key_dim].
  [[nodiscard]] Heads<float> keys() {
    return {keys_.data(), heads_, rows_, key_dim_, room_ * key_dim_, key_dim_};
  }
  /// [heads, rows, value_dim].
  [[nodiscard]] Heads<float> values() {
    return {values_.data(), heads_, rows_, value_dim_, room_ * value_dim_, value_dim_};
  }
  /// Biases of the rows, [heads, rows]; empty if no row has one.
  [[nodiscard]] Matrix<float> bias() {
    if (bias_.empty()) return {};
    return {bias_.data(), heads_, rows_, room_};
  }
  /// Those of a part, without padding.
  [[nodiscard]] Matrix<const float> visible_bias(const Part& part) {
    if (bias_.empty()) return {};
    return {bias().row(part.head) + part.padding, part.heads, rows_ - part.padding, room_};
  }
  /// One head of `x` [heads, rows, d] for each KV head. Cache heads per query head hold the same
  /// new tokens for all query heads of a KV head.
  [[nodiscard]] static Heads<const float> per_kv_head(Heads<const float> x, size_t kv_heads) {
    const size_t repeat = x.heads / kv_heads;
    return {x.data, kv_heads, x.rows, x.dim, x.head_stride * repeat, x.row_stride};
  }
  /// Position of every row but those of guests, per head.
  [[nodiscard]] const std::vector<std::vector<int32_t>>& positions() const { return positions_; }

  /// Stores a block of new tokens, [kv_heads, m, d] each; the first is new token `first`. Guests
  /// count as further new tokens.
  void store(Heads<const float> keys, Heads<const float> values, size_t first);
  /// The same with keys only.
  void store_keys(Heads<const float> keys, size_t first) { copy(keys, first, this->keys()); }

  /// Attention of rows of a stored block that ends before new token `end`: row i of queries and out
  /// [query_heads, m, d] is new token `first + i`. `lse` [query_heads, m] as in
  /// `prefill_attention`.
  void attend(Heads<const float> queries, size_t first, size_t end, AttentionOptions options,
              Heads<float> out, Matrix<float> lse);

  /// Frees the memory.
  void release();

 private:
  /// Copies a block of rows of every KV head behind the prefix of its cache heads.
  void copy(Heads<const float> block, size_t first, Heads<float> to) const;

  size_t heads_ = 0, rows_ = 0, owned_ = 0, prefix_ = 0, key_dim_ = 0, value_dim_ = 0;
  size_t room_ = 0;  ///< Rows that memory is divided into.
  AlignedVector<float> keys_, values_;
  std::vector<float> bias_;  ///< [heads, room], or empty.
  std::vector<std::vector<int32_t>> positions_;
  std::vector<Part> parts_;
};

}  // namespace restkv
