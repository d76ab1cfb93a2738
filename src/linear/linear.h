#pragma once

#include <ggml.h>

#include <cstddef>

#include "base/aligned.h"
#include "restkv/views.h"

namespace restkv {

/// A weight matrix as it lies in a GGUF file: `rows` output features of `cols` inputs, each row
/// stored in blocks of a ggml type. Does not own the bytes.
struct Weight {
  const void* data = nullptr;
  ggml_type type = GGML_TYPE_F32;
  size_t rows = 0;
  size_t cols = 0;

  [[nodiscard]] size_t row_bytes() const { return ggml_row_size(type, static_cast<int64_t>(cols)); }
  [[nodiscard]] const void* row(size_t r) const {
    return static_cast<const char*>(data) + r * row_bytes();
  }
  [[nodiscard]] bool empty() const { return data == nullptr; }
};

/// Whether rows of this type can be converted to float32 and multiplied.
bool is_supported(ggml_type type);

/// Rows [begin, begin + out.rows) of `weight` as float32.
void dequantize_rows(const Weight& weight, size_t begin, Matrix<float> out);

/// A weight together with its float32 form, if somebody made one: y = x W^T picks the faster way.
struct LinearOp {
  Weight weight;
  Matrix<const float> dense;  ///< [rows, cols], or no data: multiply in the stored type.
};

/// From this many rows of x on, converting a weight to float32 once and calling oneDNN is faster
/// than ggml's quantised dot products (bench/linear_bench prints both).
inline constexpr size_t kDenseFromRows = 16;

/// Makes the float32 form of `weight` in `storage` (float32 weights are used where they lie).
LinearOp densify(const Weight& weight, AlignedVector<float>& storage);

/// y [n, rows] = x [n, cols] W^T. Dense ops go to oneDNN's sgemm. Others multiply in the stored
/// type: ggml rounds x to that type's partner (8-bit blocks for quantised weights).
/// Deterministic for a given machine and thread count.
void linear(Matrix<const float> x, const LinearOp& op, Matrix<float> y);

}  // namespace restkv
