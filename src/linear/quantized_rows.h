#pragma once

#include <cstddef>
#include <cstdint>

#include "restkv/aligned.h"
#include "restkv/views.h"

namespace restkv {

/// Rows of x in 8 bits: every kBlock neighbouring numbers of a row are whole numbers of -127 to 127
/// times a scale that fits the largest of them; what is missing in a row's last block counts as 0.
/// Where a number is infinite or NaN its block's scale is NaN. Needs `has_int8_dot`.
class QuantizedRows {
 public:
  static constexpr size_t kBlock = 32;

  /// The rows from one on, or a part of them.
  struct View {
    const int8_t* quants;       ///< Row i from i * blocks * kBlock on.
    const float* scales;        ///< Row i from i * blocks on.
    const int32_t* sums;        ///< Likewise: of a block's quants, times -128.
    const int32_t* first_sums;  ///< Likewise, of the first half of a block's quants.
    size_t blocks;              ///< Of a whole row.

    [[nodiscard]] View from(size_t row, size_t block = 0) const {
      const size_t at = row * blocks + block;
      return {quants + at * kBlock, scales + at, sums + at, first_sums + at, blocks};
    }
  };

  /// Rounds x, in parallel. Memory is kept from call to call.
  void round(Matrix<const float> x);
  /// Makes the first sums, too, which only weights of 6 bits ask for.
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
