#include "linear/prompt_weight.h"

#include <fmt/format.h>
#include <ggml-cpu.h>

#include <algorithm>
#include <oneapi/dnnl/dnnl.hpp>

#include "base/threads.h"
#include "linear/few_rows.h"
#include "linear/int8_rows.h"
#include "linear/onednn_task.h"
#include "restkv/error.h"

namespace restkv {
namespace {

using Type = dnnl::memory::data_type;

dnnl_dim_t size(size_t n) { return static_cast<dnnl_dim_t>(n); }

/// y [n, columns] = x [n, cols] w^T in other precisions than float32; x and w are dense.
void multiply_task(Type type, Type sums, const void* x, size_t n, const void* w, size_t columns,
                   size_t cols, Matrix<float> y) {
  const OneDnnTask alone;
  try {
    static const dnnl::engine engine(dnnl::engine::kind::cpu, 0);
    dnnl::stream stream(engine);
    const dnnl::memory::desc input({size(n), size(cols)}, type, {size(cols), 1});
    const dnnl::memory::desc weight({size(cols), size(columns)}, type, {1, size(cols)});
    const dnnl::memory::desc output({size(n), size(columns)}, sums, {size(y.stride), 1});
    // oneDNN keeps what it has generated: from the second time on this takes a microsecond.
    const dnnl::matmul product(dnnl::matmul::primitive_desc({input, weight, output}, engine));
    product.execute(stream, {{DNNL_ARG_SRC, dnnl::memory(input, engine, const_cast<void*>(x))},
                             {DNNL_ARG_WEIGHTS, dnnl::memory(weight, engine, const_cast<void*>(w))},
                             {DNNL_ARG_DST, dnnl::memory(output, engine, y.data)}});
    stream.wait();
  } catch (const dnnl::error& e) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("oneDNN refused a {} x {} x {} matrix product: {}", n, columns, cols,
                            e.what()));
  }
}

/// Calls `body(r)` for every row, in parallel.
template <class Body>
void for_each_row(size_t rows, const Body& body) {
  constexpr size_t kChunk = 16;
  parallel_for((rows + kChunk - 1) / kChunk, [&](size_t task, size_t) {
    for (size_t r = task * kChunk; r < std::min(rows, (task + 1) * kChunk); ++r) body(r);
  });
}

void round_to_bf16(const float* x, size_t n, ggml_bf16_t* out) {
  ggml_get_type_traits_cpu(GGML_TYPE_BF16)->from_float(x, out, static_cast<int64_t>(n));
}

}  // namespace

void PromptWeight::convert(const Linear& linear, LinearPrecision precision) {
  precision_ = precision;
  rows_ = linear.rows();
  cols_ = linear.cols();
  if (precision == LinearPrecision::kF32) {
    floats_ = linear.densify(storage_);
    return;
  }
  const bool halves = precision == LinearPrecision::kBf16;
  if (halves) {
    halves_.resize(rows_ * cols_);
  } else {
    bytes_.resize(rows_ * cols_);
    steps_.resize(rows_);
  }
  size_t first = 0;
  for (const Weight& part : linear.parts()) {
    for_each_row(part.rows, [&](size_t r) {
      thread_local AlignedVector<float> row;  // kept from call to call
      row.resize(cols_);
      unpack_row(part, r, row.data());
      const size_t at = first + r;
      if (halves) {
        round_to_bf16(row.data(), cols_, &halves_[at * cols_]);
      } else {
        steps_[at] = round_to_int8(row.data(), cols_, &bytes_[at * cols_]);
      }
    });
    first += part.rows;
  }
}

void PromptWeight::multiply(Matrix<const float> x, Matrix<float> y, size_t first) const {
  if (precision_ == LinearPrecision::kF32) {
    multiply_dense(x, floats_.slice(first, y.cols), y);
    return;
  }
  // x in the same precision, kept from call to call.
  thread_local AlignedVector<ggml_bf16_t> own_halves;
  thread_local AlignedVector<int8_t> own_bytes;
  thread_local AlignedVector<float> own_steps;
  const bool halves = precision_ == LinearPrecision::kBf16;
  auto& x_halves = own_halves;  // the tasks' own thread_locals are others
  auto& x_bytes = own_bytes;
  auto& x_steps = own_steps;
  if (halves) {
    x_halves.resize(x.rows * cols_);
  } else {
    x_bytes.resize(x.rows * cols_);
    x_steps.resize(x.rows);
  }
  for_each_row(x.rows, [&](size_t r) {
    if (halves) {
      round_to_bf16(x.row(r), cols_, &x_halves[r * cols_]);
    } else {
      x_steps[r] = round_to_int8(x.row(r), cols_, &x_bytes[r * cols_]);
    }
  });
  for_each_tile(x.rows, y.cols, [&](size_t row, size_t rows, size_t column, size_t columns) {
    const Matrix<float> tile(y.row(row) + column, rows, columns, y.stride);
    const size_t w = first + column;
    if (halves) {
      multiply_task(Type::bf16, Type::f32, &x_halves[row * cols_], rows, &halves_[w * cols_],
                    columns, cols_, tile);
      return;
    }
    multiply_task(Type::s8, Type::s32, &x_bytes[row * cols_], rows, &bytes_[w * cols_], columns,
                  cols_, tile);
    for (size_t r = 0; r < rows; ++r) {
      scale_sums(tile.row(r), columns, x_steps[row + r], &steps_[w]);
    }
  });
}

}  // namespace restkv
