#pragma once

#include <cstddef>
#include <cstdint>

#include "base/threads.h"
#include "linear/quantized_rows.h"
#include "restkv/aligned.h"
#include "restkv/views.h"

namespace restkv {

/// A weight matrix in 8 bits, for products with many rows. kBlock neighbours of a row are quants of
/// -127 to 127 times a scale that fits the largest of them. Rows of x are rounded in the same way.
/// Sums within a block are exact; blocks are added in float32. Weights of GGUF types of up to 6
/// bits lose almost nothing; x is rounded as in ggml's products. Needs `has_int8_pairs`.
class Int8Weight {
 public:
  /// Numbers that share a scale, in weights and in x.
  static constexpr size_t kBlock = QuantizedRows::kBlock;
  /// Outputs stored together: four numbers of each fill whole vectors.
  static constexpr size_t kPanel = 64;

  /// Rounds a weight [rows, cols]. `row(r, out)` writes its row `r` as floats and is called from
  /// several threads. The memory is reused for the next weight.
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
