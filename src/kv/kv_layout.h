#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>

#include "restkv/attention.h"
#include "restkv/views.h"

namespace restkv {

/// Rows that are stored together. Within a group keys lie channel by channel, so that positions run
/// along the vector lanes: a dot product then needs no reduction, and a channel has its own scale.
inline constexpr size_t kGroupRows = 32;
/// Channels of a value row that lie together in a group, and share a scale: four vectors of
/// AVX-512.
inline constexpr size_t kSliceChannels = 64;

[[nodiscard]] constexpr bool is_quantized(KvType type) {
  return type == KvType::kQ8 || type == KvType::kQ4;
}
/// Bits of one stored element in a group.
[[nodiscard]] constexpr size_t code_bits(KvType type) {
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

/// How the rows of one cache head lie in memory: closed groups of `kGroupRows` rows, then the open
/// rows that do not fill one yet.
///
///     head  = group ... group  row ... row
///     group = keys | values
///       keys:   codes [key_dim][32], then, if quantised, steps [key_dim] and minima [key_dim]
///       values: for every slice of up to 64 channels, codes [32][channels], then, if quantised,
///       for
///               every slice steps [32] and minima [32]
///     row   = key [key_dim] | value [value_dim]
///
/// Codes are floats (kF32), halves (kF16), bytes (kQ8), or halves of bytes (kQ4): the low half of a
/// byte is row i, the high half row i + 16. A quantised element is minimum + step * code; steps and
/// minima are halves. Open rows are floats (kF32) or halves. Quantised heads leave the last
/// `kGroupRows` rows open, because what was said last matters most.
struct KvLayout {
  KvType type = KvType::kF16;
  size_t key_dim = 0;
  size_t value_dim = 0;

  [[nodiscard]] constexpr size_t slices() const {
    return (value_dim + kSliceChannels - 1) / kSliceChannels;
  }
  [[nodiscard]] constexpr size_t key_code_bytes() const { return code_bytes(key_dim); }
  [[nodiscard]] constexpr size_t key_bytes() const {
    return key_code_bytes() + (is_quantized(type) ? 2 * key_dim * sizeof(uint16_t) : 0);
  }
  [[nodiscard]] constexpr size_t value_code_bytes() const { return code_bytes(value_dim); }
  [[nodiscard]] constexpr size_t group_bytes() const {
    return key_bytes() + value_code_bytes() +
           (is_quantized(type) ? 2 * slices() * kGroupRows * sizeof(uint16_t) : 0);
  }
  /// Bytes of an element of an open row, and of a whole one.
  [[nodiscard]] constexpr size_t open_element_bytes() const {
    return type == KvType::kF32 ? sizeof(float) : sizeof(uint16_t);
  }
  [[nodiscard]] constexpr size_t row_bytes() const {
    return (key_dim + value_dim) * open_element_bytes();
  }
  /// A group is closed when this many rows are open.
  [[nodiscard]] constexpr size_t most_open_rows() const {
    return is_quantized(type) ? 2 * kGroupRows : kGroupRows;
  }
  [[nodiscard]] constexpr size_t closed_groups(size_t rows) const {
    const size_t stay_open = most_open_rows() - kGroupRows;
    return rows < stay_open ? 0 : (rows - stay_open) / kGroupRows;
  }
  [[nodiscard]] constexpr size_t open_rows(size_t rows) const {
    return rows - closed_groups(rows) * kGroupRows;
  }
  /// Where a group begins in a head of `rows` rows, open rows counted as groups.
  [[nodiscard]] constexpr size_t group_offset(size_t group, size_t rows) const {
    const size_t closed = std::min(group, closed_groups(rows));
    return closed * group_bytes() + (group - closed) * kGroupRows * row_bytes();
  }
  /// Bytes of a head of `rows` rows.
  [[nodiscard]] constexpr size_t bytes(size_t rows) const {
    return closed_groups(rows) * group_bytes() + open_rows(rows) * row_bytes();
  }
  /// Largest number of bytes that a head needs while it grows to `rows` rows.
  [[nodiscard]] constexpr size_t most_bytes(size_t rows) const {
    const size_t open = std::min(rows, most_open_rows());
    return std::min(rows * row_bytes(), closed_groups(rows) * group_bytes() + open * row_bytes());
  }

 private:
  [[nodiscard]] constexpr size_t code_bytes(size_t channels) const {
    return channels * kGroupRows * code_bits(type) / 8;
  }
};

/// Writes an open row. `key` has key_dim, `value` value_dim elements. Whether all of them were
/// finite once rounded to halves, if they are; true for `kF32`.
bool pack_row(const KvLayout& layout, const float* key, const float* value, std::byte* to);

/// Makes a closed group of `kGroupRows` open rows. All of them are read before the group is
/// written: both may lie at the same place.
///
/// Quantised elements are off by at most half a step, a step being the range of the 32 elements of
/// a channel (keys) or of the up to 64 elements of a slice (values), divided by 255 or 15, and
/// rounded up to a half after the minimum was rounded down to one. A range with NaN or infinity
/// becomes NaN.
void pack_group(const KvLayout& layout, const std::byte* rows, std::byte* group);

/// Where the rows of a group to be are: each of key_dim or value_dim floats.
using GroupRows = std::array<const float*, kGroupRows>;

/// The same group of rows that have not been open. Returns what `pack_row` does, of all rows.
bool pack_group(const KvLayout& layout, const GroupRows& keys, const GroupRows& values,
                std::byte* group);

/// Reads `keys.rows` open rows, or the `kGroupRows` rows of a closed group, as floats.
void unpack_rows(const KvLayout& layout, const std::byte* rows, Matrix<float> keys,
                 Matrix<float> values);
void unpack_group(const KvLayout& layout, const std::byte* group, Matrix<float> keys,
                  Matrix<float> values);

}  // namespace restkv
