#include "linear/linear.h"

#include <fmt/format.h>
#include <ggml-cpu.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <vector>

#include "base/threads.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void dense_product(Matrix<const float> x, Matrix<const float> w, Matrix<float> y) {
  const auto size = [](size_t v) { return static_cast<dnnl_dim_t>(v); };
  const dnnl_status_t status =
      dnnl_sgemm('N', 'T', size(x.rows), size(w.rows), size(x.cols), 1.0F, x.data, size(x.stride),
                 w.data, size(w.stride), 0.0F, y.data, size(y.stride));
  if (status != dnnl_success) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("oneDNN refused a {} x {} x {} matrix product (status {})", x.rows,
                            w.rows, x.cols, static_cast<int>(status)));
  }
}

void stored_product(Matrix<const float> x, const Weight& w, Matrix<float> y) {
  const ggml_type_traits_cpu& traits = *ggml_get_type_traits_cpu(w.type);
  const ggml_type partner = traits.vec_dot_type;
  const size_t partner_bytes = ggml_row_size(partner, static_cast<int64_t>(w.cols));
  // One buffer per calling thread: decoding calls this for every matrix of every token.
  thread_local AlignedVector<char> converted;
  if (partner != GGML_TYPE_F32) {
    converted.resize(x.rows * partner_bytes);
    const ggml_from_float_t from_float = ggml_get_type_traits_cpu(partner)->from_float;
    for (size_t i = 0; i < x.rows; ++i) {
      from_float(x.row(i), converted.data() + i * partner_bytes, static_cast<int64_t>(w.cols));
    }
  }
  const char* inputs = converted.data();  // thread_local: resolve it before the threads start
  const size_t chunk = std::clamp<size_t>(w.rows / (static_cast<size_t>(num_threads()) * 4), 16, 512);
  parallel_for((w.rows + chunk - 1) / chunk, [&](size_t task, size_t) {
    const size_t end = std::min(w.rows, (task + 1) * chunk);
    for (size_t r = task * chunk; r < end; ++r) {
      for (size_t i = 0; i < x.rows; ++i) {
        const void* input = partner == GGML_TYPE_F32 ? static_cast<const void*>(x.row(i))
                                                     : inputs + i * partner_bytes;
        traits.vec_dot(static_cast<int>(w.cols), y.row(i) + r, 0, w.row(r), 0, input, 0, 1);
      }
    }
  });
}

}  // namespace

bool is_supported(ggml_type type) {
  if (type < 0 || type >= GGML_TYPE_COUNT) return false;
  const ggml_type_traits* traits = ggml_get_type_traits(type);
  return type == GGML_TYPE_F32 ||
         (traits->to_float != nullptr && ggml_get_type_traits_cpu(type)->vec_dot != nullptr);
}

void dequantize_rows(const Weight& weight, size_t begin, Matrix<float> out) {
  const auto to_float = ggml_get_type_traits(weight.type)->to_float;
  constexpr size_t kChunk = 16;
  parallel_for((out.rows + kChunk - 1) / kChunk, [&](size_t task, size_t) {
    for (size_t r = task * kChunk; r < std::min(out.rows, (task + 1) * kChunk); ++r) {
      if (weight.type == GGML_TYPE_F32) {
        std::copy_n(static_cast<const float*>(weight.row(begin + r)), weight.cols, out.row(r));
      } else {
        to_float(weight.row(begin + r), out.row(r), static_cast<int64_t>(weight.cols));
      }
    }
  });
}

LinearOp densify(const Weight& weight, AlignedVector<float>& storage) {
  if (weight.type == GGML_TYPE_F32) {
    return {weight, {static_cast<const float*>(weight.data), weight.rows, weight.cols}};
  }
  storage.resize(weight.rows * weight.cols);
  const Matrix<float> dense(storage.data(), weight.rows, weight.cols);
  dequantize_rows(weight, 0, dense);
  return {weight, dense};
}

void linear(Matrix<const float> x, const LinearOp& op, Matrix<float> y) {
  if (x.cols != op.weight.cols || y.cols != op.weight.rows || x.rows != y.rows) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("linear: [{}, {}] times a [{}, {}] weight does not give [{}, {}]",
                            x.rows, x.cols, op.weight.rows, op.weight.cols, y.rows, y.cols));
  }
  if (op.dense.data != nullptr) {
    dense_product(x, op.dense, y);
  } else {
    stored_product(x, op.weight, y);
  }
}

}  // namespace restkv
