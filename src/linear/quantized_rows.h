#pragma once

#include <cstddef>
#include <cstdint>

#include "restkv/aligned.h"
#include "restkv/views.h"

namespace restkv {

/// Rows of x in 8 bits: kBlock neighbours of a row are quants of -127 to 127 times a scale that
/// fits the largest of them. A row's last block is padded with zeros. The scale of a block with
/// infinity or NaN is NaN. Needs `has_int8_pairs`.
class QuantizedRows {
 public:
  static constexpr size_t kBlock = 32;

  /// The rows from some row on, or some of their blocks.
  struct View {
    const int8_t* quants;       ///< Row i starts at i * blocks * kBlock.
    const float* scales;        ///< Row i starts at i * blocks.
    const int32_t* sums;        ///< Likewise: the sum of a block's quants times -128.
    const int32_t* first_sums;  ///< Likewise, for the first half of a block.
    size_t blocks;              ///< Blocks of a whole row.

    [[nodiscard]] View from(size_t row, size_t block = 0) const {
      const size_t at = row * blocks + block;
      return {quants + at * kBlock, scales + at, sums + at, first_sums + at, blocks};
    }
  };

  /// Rounds x, in parallel. Memory is reused between calls.
  void round(Matrix<const float> x);
  /// Computes the first sums, which only 6-bit weights need.
  void add_first_sums();

  [[nodiscard]] View view() const {
    return {quants_.data(), scales_.data(), sums_.data(), first_sums_.data(), blocks_};
  }

 private:
  size_t rows_ = 0;
  size_t blocks_ = 0;
  AlignedVector<int8_t> quants_;
  AlignedVector<float> scales_;
  AlignedVector<int32_t> sums_, first_sums_;
};

}  // namespace restkv
