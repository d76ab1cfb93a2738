#include "linear/linear.h"

#include <fmt/format.h>
#include <ggml-cpu.h>
#include <oneapi/dnnl/dnnl.h>
#include <pthread.h>

#include <algorithm>
#include <csignal>
#include <utility>

#include "base/threads.h"
#include "restkv/error.h"

// The one function needed of the OpenMP runtime under oneDNN (not every compiler has its header).
extern "C" void omp_set_num_threads(int threads);

namespace restkv {
namespace {

/// x in the types that the stored weights want to be multiplied with, one buffer per type.
class PartnerInputs {
 public:
  PartnerInputs(Matrix<const float> x, const std::vector<Weight>& parts) : x_(x) {
    for (const Weight& part : parts) {
      const ggml_type type = ggml_get_type_traits_cpu(part.type)->vec_dot_type;
      if (type == GGML_TYPE_F32 || !converted_[type].empty()) continue;
      const auto from_float = ggml_get_type_traits_cpu(type)->from_float;
      const size_t bytes = row_bytes(type);
      converted_[type].resize(x.rows * bytes);
      for (size_t i = 0; i < x.rows; ++i) {
        from_float(x.row(i), converted_[type].data() + i * bytes, static_cast<int64_t>(x.cols));
      }
    }
  }
  [[nodiscard]] const void* row(ggml_type type, size_t i) const {
    if (type == GGML_TYPE_F32) return x_.row(i);
    return converted_[type].data() + i * row_bytes(type);
  }

 private:
  [[nodiscard]] size_t row_bytes(ggml_type type) const {
    return ggml_row_size(type, static_cast<int64_t>(x_.cols));
  }
  Matrix<const float> x_;
  AlignedVector<char> converted_[GGML_TYPE_COUNT];
};

/// Holds signals back from this thread. oneDNN 2.6 uses the stack pointer as a general register in
/// some of its generated products; a signal handler that ran then would write its frame over the
/// heap.
class SignalsHeld {
 public:
  SignalsHeld() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsHeld() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsHeld(const SignalsHeld&) = delete;
  SignalsHeld& operator=(const SignalsHeld&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

bool is_supported(ggml_type type) {
  if (type < 0 || type >= GGML_TYPE_COUNT) return false;
  if (type == GGML_TYPE_F32) return true;
  return ggml_get_type_traits(type)->to_float != nullptr &&
         ggml_get_type_traits_cpu(type)->vec_dot != nullptr;
}

void dequantize_row(const Weight& weight, size_t r, float* out) {
  if (weight.type == GGML_TYPE_F32) {
    std::copy_n(static_cast<const float*>(weight.row(r)), weight.cols, out);
  } else {
    ggml_get_type_traits(weight.type)
        ->to_float(weight.row(r), out, static_cast<int64_t>(weight.cols));
  }
}

void dequantize(const Weight& weight, Matrix<float> out) {
  constexpr size_t kChunk = 16;
  parallel_for((weight.rows + kChunk - 1) / kChunk, [&](size_t task, size_t) {
    for (size_t r = task * kChunk; r < std::min(weight.rows, (task + 1) * kChunk); ++r) {
      dequantize_row(weight, r, out.row(r));
    }
  });
}

Linear::Linear(std::vector<Weight> parts, std::vector<float> bias)
    : parts_(std::move(parts)), bias_(std::move(bias)) {
  for (const Weight& part : parts_) rows_ += part.rows;
}

Matrix<const float> Linear::densify(AlignedVector<float>& storage) const {
  if (parts_.size() == 1 && parts_[0].type == GGML_TYPE_F32) {
    return {static_cast<const float*>(parts_[0].data), rows_, cols()};
  }
  storage.resize(rows_ * cols());
  const Matrix<float> dense(storage.data(), rows_, cols());
  size_t row = 0;
  for (const Weight& part : parts_) {
    dequantize(part, dense.slice(row, part.rows));
    row += part.rows;
  }
  return dense;
}

void Linear::multiply_stored(Matrix<const float> x, Matrix<float> y) const {
  const PartnerInputs inputs(x, parts_);
  // Chunks never cross parts; a few per thread balance the load without waking threads for nothing.
  const size_t chunk =
      std::clamp<size_t>(rows_ / (static_cast<size_t>(num_threads()) * 4), 16, 1024);
  struct Task {
    const Weight* part;
    size_t begin, end, output;  // rows of the part; column of y
  };
  std::vector<Task> tasks;
  size_t output = 0;
  for (const Weight& part : parts_) {
    for (size_t begin = 0; begin < part.rows; begin += chunk) {
      tasks.push_back({&part, begin, std::min(part.rows, begin + chunk), output + begin});
    }
    output += part.rows;
  }
  parallel_for(tasks.size(), [&](size_t t, size_t) {
    const Task& task = tasks[t];
    const ggml_type_traits_cpu& traits = *ggml_get_type_traits_cpu(task.part->type);
    const int n = static_cast<int>(x.cols);
    for (size_t r = task.begin; r < task.end; ++r) {
      for (size_t i = 0; i < x.rows; ++i) {
        traits.vec_dot(n, y.row(i) + task.output + (r - task.begin), 0, task.part->row(r), 0,
                       inputs.row(traits.vec_dot_type, i), 0, 1);
      }
    }
  });
}

void multiply_dense(Matrix<const float> x, Matrix<const float> w, Matrix<float> y) {
  // Our threads each compute some columns of y with a single-threaded product: one pool for
  // everything, instead of oneDNN's OpenMP threads spinning against it. The columns of a task do
  // not depend on the number of threads, so neither does the result.
  constexpr size_t kColumns = 192;
  const auto size = [](size_t v) { return static_cast<dnnl_dim_t>(v); };
  parallel_for((w.rows + kColumns - 1) / kColumns, [&](size_t task, size_t) {
    const size_t begin = task * kColumns;
    const size_t columns = std::min(kColumns, w.rows - begin);
    const SignalsHeld held;
    omp_set_num_threads(1);  // of this thread, as oneDNN sees it
    const dnnl_status_t status = dnnl_sgemm('N', 'T', size(x.rows), size(columns), size(x.cols),
                                            1.0F, x.data, size(x.stride), w.row(begin),
                                            size(w.stride), 0.0F, y.data + begin, size(y.stride));
    if (status != dnnl_success) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("oneDNN refused a {} x {} x {} matrix product (status {})", x.rows,
                              columns, x.cols, static_cast<int>(status)));
    }
  });
}

}  // namespace restkv
