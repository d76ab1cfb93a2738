#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "restkv/attention.h"
#include "restkv/compress.h"
#include "restkv/views.h"

namespace restkv {

/// The ragged compressed cache: every (layer, cache head) keeps its own number of its own tokens,
/// keys already rotated, with the original positions beside them.
///
/// A cache head is a KV head, or a query head when a selection was made per query head.
class KvCache {
 public:
  KvCache() = default;
  KvCache(size_t layers, size_t kv_heads, size_t key_dim, size_t value_dim,
          KvType type = KvType::kF16);
  /// A copy has rows of its own: both can go on in different ways.
  KvCache(const KvCache& other);
  KvCache& operator=(const KvCache& other) { return *this = KvCache(other); }
  KvCache(KvCache&&) noexcept = default;
  KvCache& operator=(KvCache&&) noexcept = default;
  ~KvCache() = default;

  /// The `gather` stage: copies the selected rows of a layer's keys and values, each
  /// [kv_heads, n, dim], replacing what the layer held. `selection` has one list per cache head.
  /// Throws `Error` (kInvalidArgument), and leaves the cache as it was, if a position lies outside
  /// [0, n), the number of cache heads is no multiple of the number of KV heads, or shapes do not
  /// fit the cache.
  void gather(size_t layer, Heads<const float> keys, Heads<const float> values,
              const Selection& selection);

  /// Appends one token to every cache head of a layer: keys and values are [kv_heads, dim].
  /// Throws `Error` (kInvalidArgument) if shapes do not fit the cache.
  void append(size_t layer, Matrix<const float> keys, Matrix<const float> values, int32_t position);

  /// Bounds a layer with a sliding window: once it holds `rows` rows per head, `append` puts each
  /// token in the place of the oldest. Rows that are there must be in ascending order and no more
  /// than `rows`, which must not be 0; throws `Error` (kInvalidArgument) otherwise.
  void limit(size_t layer, size_t rows);

  /// Rows of a layer for `decode_attention`; valid until the layer changes.
  [[nodiscard]] std::span<const CachedHead> heads(size_t layer) const {
    return layers_[layer].views;
  }
  /// Original positions of the rows of one cache head.
  [[nodiscard]] std::span<const int32_t> positions(size_t layer, size_t head) const {
    return layers_[layer].heads[head].positions;
  }
  [[nodiscard]] size_t layers() const { return layers_.size(); }

  /// Position of the next token; the engine keeps it equal to the number of tokens seen.
  size_t next_position = 0;

  /// Bytes of the kept rows: tokens x (key_dim + value_dim) x element, over all layers and heads.
  [[nodiscard]] size_t kept_bytes() const;
  /// Bytes held in memory, spare room and positions included.
  [[nodiscard]] size_t allocated_bytes() const;

 private:
  struct Head {
    std::vector<std::byte> keys, values;
    std::vector<int32_t> positions;
  };
  struct Layer {
    std::vector<Head> heads;
    std::vector<CachedHead> views;
    size_t limit = 0;   // rows per head; 0: none
    size_t oldest = 0;  // the row that is replaced next, once `limit` is reached
  };
  Layer& find_layer(size_t layer);
  /// Converts one row to the stored type.
  void store(const float* row, size_t dim, std::byte* to) const;
  void append_row(std::vector<std::byte>& rows, const float* row, size_t dim) const;
  void refresh_views(Layer& layer) const;

  KvType type_ = KvType::kF16;
  size_t kv_heads_ = 0;
  size_t key_dim_ = 0;
  size_t value_dim_ = 0;
  std::vector<Layer> layers_;
};

}  // namespace restkv
