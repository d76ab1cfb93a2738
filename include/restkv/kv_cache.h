#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/selection.h"
#include "restkv/views.h"

namespace restkv {

struct KvLayout;
class ByteReader;
class ByteWriter;

/// The ragged compressed cache. Every cache head of every layer keeps its own number of tokens,
/// with rotated keys and original positions.
///
/// A cache head is a KV head, or a query head if the selection was made per query head. Rows that
/// were refitted have a bias, which attention adds to their logits. `KvType` is the storage type of
/// rows. Quantised caches quantise the oldest 32 residual rows whenever there
/// are 64 in half precision, so that gathering rows and appending them one by one give the same.
class KvCache {
 public:
  KvCache() = default;
  KvCache(size_t layers, size_t kv_heads, size_t key_dim, size_t value_dim,
          KvType type = KvType::kF16);
  /// A copy owns its rows; both caches can then change independently.
  KvCache(const KvCache& other);
  KvCache& operator=(const KvCache& other) { return *this = KvCache(other); }
  KvCache(KvCache&&) noexcept = default;
  KvCache& operator=(KvCache&&) noexcept = default;
  ~KvCache() = default;

  /// The `gather` stage: copies the selected rows of a layer's keys and values, each
  /// [kv_heads, n, dim], replacing what the layer held. `selection` has one list per cache head.
  /// Throws `Error` (kInvalidArgument) and leaves the cache unchanged if a position is outside
  /// [0, n), the number of cache heads is no multiple of the number of KV heads, or shapes do not
  /// fit the cache. Throws `Error` (kInput) if a finite number exceeds the range of half precision
  /// (65,504), in which all types but `kF32` keep rows or scales; the layer is then unusable.
  ///
  /// Keys and values may also come as [cache_heads, n, dim]. `positions`, one list of n per head of
  /// the keys, gives the original position of each row; without it, row i has position i. `bias`
  /// [heads of the keys, n] gives the biases; empty: the rows have none.
  ///
  /// `open`: more rows will be dropped. Until `close` the layer holds its rows one by one, in the
  /// precision of residual rows, and has no `heads`.
  void gather(size_t layer, Heads<const float> keys, Heads<const float> values,
              const Selection& selection, std::span<const std::vector<int32_t>> positions = {},
              bool open = false, Matrix<const float> bias = {});
  /// Drops rows of an open layer: each head keeps the selected of the rows that it holds, in their
  /// order, and the memory of the others is freed. Throws `Error` (kInvalidArgument) if the layer
  /// is not open or the selection does not fit its heads.
  void keep(size_t layer, const Selection& rows);
  /// Replaces the values [rows, value_dim] of a head of an open layer and sets the biases of its
  /// rows. Throws `Error`: kInvalidArgument (the layer is not open or the shapes do not fit the
  /// head), kInput (as `gather`).
  void refit(size_t layer, size_t head, Matrix<const float> values, std::span<const float> bias);
  /// Stores the rows of an open layer as `gather` stores those that stay.
  void close(size_t layer);

  /// Appends one token to every cache head of a layer: keys and values are [kv_heads, dim].
  /// Throws `Error`: kInvalidArgument (shapes do not fit the cache), kInput (as `gather`).
  void append(size_t layer, Matrix<const float> keys, Matrix<const float> values, int32_t position);

  /// Bounds a layer with a sliding window: `append` drops each head's oldest token when it would
  /// hold more than `rows`. Throws `Error` (kInvalidArgument) if `rows` is 0 or a head holds more.
  void limit(size_t layer, size_t rows);
  /// That bound; 0: none.
  [[nodiscard]] size_t row_limit(size_t layer) const { return layers_[layer].limit; }

  /// A copy of the first `rows` rows of every cache head. Rows of quantised blocks that the copy
  /// keeps in half precision stay rounded as they are. Throws `Error` (kInvalidArgument) if a head
  /// holds fewer rows, or has dropped its first ones.
  [[nodiscard]] KvCache first_rows(size_t rows) const;

  /// All rows of a cache head, also of an open layer, as floats: keys [rows, key_dim], values
  /// [rows, value_dim]. Throws `Error` (kInvalidArgument) if there is no such head or the shapes do
  /// not fit it.
  void read(size_t layer, size_t head, Matrix<float> keys, Matrix<float> values) const;

  /// Rows of a layer for `decode_attention`; valid until the layer changes.
  [[nodiscard]] std::span<const CachedHead> heads(size_t layer) const {
    return layers_[layer].views;
  }
  /// Original positions of the rows of one cache head.
  [[nodiscard]] std::span<const int32_t> positions(size_t layer, size_t head) const {
    const Head& h = layers_[layer].heads[head];
    return std::span(h.positions).subspan(h.first);
  }
  /// Biases of the rows of one cache head; empty if no row of it has ever had one.
  [[nodiscard]] std::span<const float> bias(size_t layer, size_t head) const {
    const Head& h = layers_[layer].heads[head];
    return std::span(h.bias).subspan(h.bias.empty() ? 0 : h.first);
  }
  [[nodiscard]] size_t layers() const { return layers_.size(); }

  /// For snapshots: all rows as they are stored, without and then with their biases. `load`
  /// replaces the rows of a cache of the same shape and type. It throws `Error` (kInput) on bytes
  /// that no such cache can have written.
  void save(ByteWriter& out) const;
  void load(ByteReader& in);
  void save_biases(ByteWriter& out) const;
  void load_biases(ByteReader& in);

  /// Position of the next token; the engine keeps it equal to the number of tokens seen, and
  /// `first_rows` sets it to `rows`.
  size_t next_position = 0;

  /// Bytes of the kept rows over all layers and heads: tokens x (key_dim + value_dim) x element
  /// size, scales and mins of quantised rows, and biases.
  [[nodiscard]] size_t kept_bytes() const;
  /// Bytes of allocated memory, spare capacity and positions included.
  [[nodiscard]] size_t allocated_bytes() const;

 private:
  struct Head {
    AlignedVector<std::byte> data;  // as `KvLayout` says
    std::vector<int32_t> positions;
    std::vector<float> bias;  // one per position, or none
    size_t first = 0;  // rows before this one are hidden; 32 hidden rows are dropped as a block

    [[nodiscard]] size_t rows() const { return positions.size() - first; }
  };
  struct Layer {
    std::vector<Head> heads;
    std::vector<CachedHead> views;
    size_t limit = 0;   // rows per head; 0: none
    bool open = false;  // all rows are stored one by one, as residual rows are
  };
  Layer& find_layer(size_t layer);
  [[nodiscard]] KvLayout layout() const;
  void reserve(Head& head, size_t rows) const;
  /// Returns whether the stored row is finite.
  bool append_row(Head& head, const float* key, const float* value, int32_t position) const;
  /// Packs the oldest residual rows into a block.
  void pack_oldest_rows(Head& head) const;
  [[nodiscard]] Head first_rows(const Head& head, size_t rows) const;
  /// Hides the oldest row.
  void drop_row(Head& head) const;
  void refresh_views(Layer& layer) const;

  KvType type_ = KvType::kF16;
  size_t kv_heads_ = 0;
  size_t key_dim_ = 0;
  size_t value_dim_ = 0;
  std::vector<Layer> layers_;
};

}  // namespace restkv
