#pragma once

#include <cstddef>
#include <cstdint>

#include "base/threads.h"
#include "linear/quantized_rows.h"
#include "restkv/aligned.h"
#include "restkv/views.h"

namespace restkv {

/// A weight matrix in 8 bits, for products with many rows: kBlock neighbouring numbers of a row are
/// whole numbers of -127 to 127 times a scale that fits the largest of them. Rows of x are rounded
/// in the same way, sums within a block are exact, and blocks add up in float32. That is finer than
/// what GGUF's types of up to 6 bits keep, so hardly anything is lost of those weights; of x as
/// much as by ggml's own products. Needs `has_int8_dot`.
class Int8Weight {
 public:
  /// Numbers that share a scale, in weights and in x.
  static constexpr size_t kBlock = QuantizedRows::kBlock;
  /// Outputs that lie together, so that four numbers of each are a whole vector or several.
  static constexpr size_t kPanel = 64;

  /// Rounds a weight [rows, cols]; `row(r, out)` writes its row `r` as floats, for several rows at
  /// the same time. The memory is kept from one weight to the next.
  void convert(size_t rows, size_t cols, FunctionRef<void(size_t r, float* out)> row);

  /// y [n, rows] = x [n, cols] W^T, the same for any number of threads. A narrower y gets outputs
  /// [first, first + y.cols) only. NaN or infinity in a row of x or W makes its outputs NaN.
  void multiply(Matrix<const float> x, Matrix<float> y, size_t first = 0) const;

 private:
  [[nodiscard]] size_t blocks() const { return (cols_ + kBlock - 1) / kBlock; }

  size_t rows_ = 0;
  size_t cols_ = 0;
  AlignedVector<uint8_t> quants_;  // [panels][blocks * kBlock / 4][kPanel][4], plus kByteOffset
  AlignedVector<float> scales_;    // [panels][blocks][kPanel]
};

}  // namespace restkv
