#include "linear/prompt_weight.h"

#include <fmt/format.h>
#include <ggml-cpu.h>

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>

#include "base/int8_dot.h"
#include "linear/onednn_task.h"
#include "linear/tiles.h"
#include "restkv/error.h"

namespace restkv {
namespace {

using Type = dnnl::memory::data_type;

dnnl_dim_t size(size_t n) { return static_cast<dnnl_dim_t>(n); }

/// y [n, columns] = x [n, cols] w^T in bfloat16 with sums in float32; x and w are dense.
void multiply_halves(const ggml_bf16_t* x, size_t n, const ggml_bf16_t* w, size_t columns,
                     size_t cols, Matrix<float> y) {
  const OneDnnTask alone;
  try {
    static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    dnnl::stream stream(engine);
    const dnnl::memory::desc input({size(n), size(cols)}, Type::bf16, {size(cols), 1});
    const dnnl::memory::desc weight({size(cols), size(columns)}, Type::bf16, {1, size(cols)});
    const dnnl::memory::desc output({size(n), size(columns)}, Type::f32, {size(y.stride), 1});
    // oneDNN caches generated code: from the second call on this takes a microsecond.
    const dnnl::matmul product(dnnl::matmul::primitive_desc({input, weight, output}, engine));
    product.execute(stream,
                    {{DNNL_ARG_SRC, dnnl::memory(input, engine, const_cast<ggml_bf16_t*>(x))},
                     {DNNL_ARG_WEIGHTS, dnnl::memory(weight, engine, const_cast<ggml_bf16_t*>(w))},
                     {DNNL_ARG_DST, dnnl::memory(output, engine, y.data)}});
    stream.wait();
  } catch (const dnnl::error& e) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("oneDNN refused a {} x {} x {} matrix product: {}", n, columns, cols,
                            e.what()));
  }
}

void round_to_bf16(const float* x, size_t n, ggml_bf16_t* out) {
  ggml_get_type_traits_cpu(GGML_TYPE_BF16)->from_float(x, out, static_cast<int64_t>(n));
}

}  // namespace

void PromptWeight::convert(const Linear& linear, LinearPrecision precision) {
  precision_ = precision;
  rows_ = linear.rows();
  cols_ = linear.cols();
  stored_ = nullptr;
  switch (precision) {
    case LinearPrecision::kF32:
      floats_ = linear.dequantize(storage_);
      break;
    case LinearPrecision::kInt8:
      if (!has_int8_dot() && linear.can_be_packed()) {
        stored_ = &linear;
        return;
      }
      bytes_.convert(rows_, cols_, [&](size_t r, float* row) { linear.unpack(r, row); });
      break;
    default:
      halves_.resize(rows_ * cols_);
      for_each_row(rows_, [&](size_t r) {
        thread_local AlignedVector<float> row;  // reused between calls
        row.resize(cols_);
        linear.unpack(r, row.data());
        round_to_bf16(row.data(), cols_, &halves_[r * cols_]);
      });
  }
  linear.release_file();
}

void PromptWeight::multiply(Matrix<const float> x, Matrix<float> y, size_t first) const {
  if (precision_ == LinearPrecision::kF32) {
    multiply_dense(x, floats_.slice(first, y.cols), y);
    return;
  }
  if (stored_ != nullptr) {
    multiply_stored(x, y, first);
    return;
  }
  if (precision_ == LinearPrecision::kInt8) {
    bytes_.multiply(x, y, first);
    return;
  }
  thread_local AlignedVector<ggml_bf16_t> own_halves;  // reused between calls
  auto& halves = own_halves;                           // tasks would see their own thread_locals
  halves.resize(x.rows * cols_);
  for_each_row(x.rows, [&](size_t r) { round_to_bf16(x.row(r), cols_, &halves[r * cols_]); });
  for_each_tile(x.rows, y.cols, [&](size_t row, size_t rows, size_t column, size_t columns) {
    multiply_halves(&halves[row * cols_], rows, &halves_[(first + column) * cols_], columns, cols_,
                    {y.row(row) + column, rows, columns, y.stride});
  });
}

void PromptWeight::multiply_stored(Matrix<const float> x, Matrix<float> y, size_t first) const {
  if (y.cols == rows_) {
    stored_->multiply_stored(x, y, StoredProduct::kFastestRounded);
    return;
  }
  thread_local AlignedVector<float> all;  // reused between calls
  all.resize(x.rows * rows_);
  stored_->multiply_stored(x, {all.data(), x.rows, rows_}, StoredProduct::kFastestRounded);
  for (size_t i = 0; i < x.rows; ++i) std::copy_n(&all[i * rows_ + first], y.cols, y.row(i));
}

}  // namespace restkv
