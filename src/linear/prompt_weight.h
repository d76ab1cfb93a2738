#pragma once

#include <ggml.h>

#include "linear/int8_weight.h"
#include "linear/linear.h"
#include "restkv/aligned.h"
#include "restkv/precision.h"
#include "restkv/views.h"

namespace restkv {

/// A whole weight converted to the precision of prompts. The memory is reused by the next
/// conversion.
class PromptWeight {
 public:
  /// `linear` must outlive this object: float32 weights are not copied. Neither are packed weights
  /// in 8 bits on processors without VNNI, where quants of fewer bits are faster than those of 8.
  void convert(const Linear& linear, LinearPrecision precision);

  /// y [n, rows] = x [n, cols] W^T, the same for any number of threads. A narrower y gets outputs
  /// [first, first + y.cols) only.
  void multiply(Matrix<const float> x, Matrix<float> y, size_t first = 0) const;

 private:
  void multiply_stored(Matrix<const float> x, Matrix<float> y, size_t first) const;

  LinearPrecision precision_ = LinearPrecision::kF32;
  Matrix<const float> floats_;
  size_t rows_ = 0;
  size_t cols_ = 0;
  AlignedVector<float> storage_;       // of floats_
  AlignedVector<ggml_bf16_t> halves_;  // [rows, cols]
  Int8Weight bytes_;
  const Linear* stored_ = nullptr;  // multiplied as it is
};

}  // namespace restkv
