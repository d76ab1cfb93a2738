#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "restkv/attention.h"
#include "restkv/views.h"

namespace restkv {

/// Rows of a packed block. Its keys are stored channel by channel, so that positions run along the
/// vector lanes: a dot product needs no reduction, and each channel has its own scale.
inline constexpr size_t kBlockRows = 32;
/// Channels of a value row that are stored together in a block and share a scale: four vectors of
/// AVX-512.
inline constexpr size_t kSliceChannels = 64;

[[nodiscard]] constexpr bool is_quantized(KvType type) {
  return type == KvType::kQ8 || type == KvType::kQ4;
}
/// Bits of one stored element of a block.
[[nodiscard]] constexpr size_t element_bits(KvType type) {
  switch (type) {
    case KvType::kF32:
      return 32;
    case KvType::kF16:
      return 16;
    case KvType::kQ8:
      return 8;
    case KvType::kQ4:
      return 4;
  }
  return 0;
}

/// Memory layout of one cache head: packed blocks of `kBlockRows` rows, then the residual rows that
/// do not fill a block yet.
///
///     head  = block ... block  row ... row
///     block = keys | values
///       keys:   elements [key_dim][32], then, if quantised, scales [key_dim] and mins [key_dim]
///       values: elements [32][channels] for every slice of up to 64 channels, then, if quantised,
///               scales [32] and mins [32] for every slice
///     row   = key [key_dim] | value [value_dim]
///
/// Elements are floats (kF32), halves (kF16), bytes (kQ8) or 4-bit numbers (kQ4). With kQ4 the
/// lower 4 bits of a byte belong to row i, the upper 4 to row i + 16. A quantised element has the
/// value min + scale * quant; scales and mins are halves. Residual rows are floats (kF32) or
/// halves. Quantised heads keep at least the last `kBlockRows` rows as residual rows, because the
/// latest tokens matter most.
struct KvLayout {
  KvType type = KvType::kF16;
  size_t key_dim = 0;
  size_t value_dim = 0;

  [[nodiscard]] constexpr size_t slices() const {
    return (value_dim + kSliceChannels - 1) / kSliceChannels;
  }
  [[nodiscard]] constexpr size_t key_element_bytes() const { return element_bytes(key_dim); }
  [[nodiscard]] constexpr size_t key_bytes() const {
    return key_element_bytes() + (is_quantized(type) ? 2 * key_dim * sizeof(uint16_t) : 0);
  }
  [[nodiscard]] constexpr size_t value_element_bytes() const { return element_bytes(value_dim); }
  [[nodiscard]] constexpr size_t block_bytes() const {
    return key_bytes() + value_element_bytes() +
           (is_quantized(type) ? 2 * slices() * kBlockRows * sizeof(uint16_t) : 0);
  }
  /// Bytes of an element of a residual row, and of a whole row.
  [[nodiscard]] constexpr size_t residual_element_bytes() const {
    return type == KvType::kF32 ? sizeof(float) : sizeof(uint16_t);
  }
  [[nodiscard]] constexpr size_t row_bytes() const {
    return (key_dim + value_dim) * residual_element_bytes();
  }
  /// The oldest `kBlockRows` residual rows are packed when there are this many.
  [[nodiscard]] constexpr size_t max_residual_rows() const {
    return is_quantized(type) ? 2 * kBlockRows : kBlockRows;
  }
  [[nodiscard]] constexpr size_t packed_blocks(size_t rows) const {
    const size_t stay = max_residual_rows() - kBlockRows;
    return rows < stay ? 0 : (rows - stay) / kBlockRows;
  }
  [[nodiscard]] constexpr size_t residual_rows(size_t rows) const {
    return rows - packed_blocks(rows) * kBlockRows;
  }
  /// Offset of a block in a head of `rows` rows; residual rows count as blocks, too.
  [[nodiscard]] constexpr size_t block_offset(size_t block, size_t rows) const {
    const size_t packed = std::min(block, packed_blocks(rows));
    return packed * block_bytes() + (block - packed) * kBlockRows * row_bytes();
  }
  /// Bytes of a head of `rows` rows.
  [[nodiscard]] constexpr size_t bytes(size_t rows) const {
    return packed_blocks(rows) * block_bytes() + residual_rows(rows) * row_bytes();
  }
  /// Largest number of bytes that a head needs while it grows to `rows` rows.
  [[nodiscard]] constexpr size_t max_bytes(size_t rows) const {
    const size_t residual = std::min(rows, max_residual_rows());
    return std::min(rows * row_bytes(),
                    packed_blocks(rows) * block_bytes() + residual * row_bytes());
  }

 private:
  [[nodiscard]] constexpr size_t element_bytes(size_t channels) const {
    return channels * kBlockRows * element_bits(type) / 8;
  }
};

/// Writes a residual row of `key` [key_dim] and `value` [value_dim]. Returns whether all elements
/// are finite after rounding to halves; always true for `kF32`.
bool pack_row(const KvLayout& layout, const float* key, const float* value, std::byte* to);

/// Packs `kBlockRows` residual rows into a block. All rows are read before the block is written, so
/// both may share memory.
///
/// The error of a quantised element is at most half a scale. The scale is the range of the 32
/// elements of a channel (keys) or of the up to 64 elements of a slice (values), divided by 255 or
/// 15. The min is rounded down to a half, then the scale up to a half. A range with NaN or infinity
/// becomes NaN.
void pack_block(const KvLayout& layout, const std::byte* rows, std::byte* block);

/// The rows of a block to be packed, each of key_dim or value_dim floats.
using BlockRows = std::array<const float*, kBlockRows>;

/// Packs rows that were never stored as residual rows; the block is the same. Returns whether all
/// elements are finite after rounding to halves, as `pack_row` does.
bool pack_block(const KvLayout& layout, const BlockRows& keys, const BlockRows& values,
                std::byte* block);

/// Reads `keys.rows` residual rows, or the `kBlockRows` rows of a packed block, as floats.
void unpack_rows(const KvLayout& layout, const std::byte* rows, Matrix<float> keys,
                 Matrix<float> values);
void unpack_block(const KvLayout& layout, const std::byte* block, Matrix<float> keys,
                  Matrix<float> values);

}  // namespace restkv
