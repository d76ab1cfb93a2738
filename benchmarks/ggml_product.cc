#include "ggml_product.h"

#include <ggml-backend.h>
#include <ggml-cpp.h>
#include <ggml-cpu.h>

#include <string_view>

#include "base/threads.h"
#include "restkv/error.h"

namespace restkv::bench {
namespace {

/// The CPU's buffer type with repacked layouts; null if ggml has none.
ggml_backend_buffer_type_t repacking_buffers() {
  ggml_backend_dev_t cpu = ggml_backend_dev_by_type(GGML_BACKEND_DEVICE_TYPE_CPU);
  const auto extra_buffers =
      reinterpret_cast<ggml_backend_dev_get_extra_bufts_t>(ggml_backend_reg_get_proc_address(
          ggml_backend_dev_backend_reg(cpu), "ggml_backend_dev_get_extra_bufts"));
  if (extra_buffers == nullptr) return nullptr;
  for (auto* types = extra_buffers(cpu); types != nullptr && *types != nullptr; ++types) {
    if (std::string_view(ggml_backend_buft_name(*types)) == "CPU_REPACK") return *types;
  }
  return nullptr;
}

}  // namespace

struct GgmlProduct::State {
  ggml_context_ptr weight_context, context;
  ggml_backend_ptr backend;
  ggml_backend_buffer_ptr weight_buffer, buffer;
  ggml_tensor* y = nullptr;
  ggml_cgraph* graph = nullptr;
};

GgmlProduct::GgmlProduct(ggml_type type, size_t rows, size_t cols, const void* weight,
                         bool repacked, Matrix<const float> x)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  const auto size = [](size_t n) { return static_cast<int64_t>(n); };
  const ggml_init_params params{
      .mem_size = ggml_tensor_overhead() * 8 + ggml_graph_overhead(),
      .mem_buffer = nullptr,
      .no_alloc = true,
  };
  s.weight_context.reset(ggml_init(params));
  s.context.reset(ggml_init(params));
  s.backend.reset(ggml_backend_cpu_init());
  ggml_backend_buffer_type_t buffers =
      repacked ? repacking_buffers() : ggml_backend_cpu_buffer_type();
  if (buffers == nullptr) return;

  ggml_tensor* w = ggml_new_tensor_2d(s.weight_context.get(), type, size(cols), size(rows));
  ggml_tensor* input = ggml_new_tensor_2d(s.context.get(), GGML_TYPE_F32, size(cols), size(x.rows));
  ggml_tensor* y = ggml_mul_mat(s.context.get(), w, input);
  s.weight_buffer.reset(ggml_backend_alloc_ctx_tensors_from_buft(s.weight_context.get(), buffers));
  if (s.weight_buffer == nullptr) return;
  if (repacked && w->extra == nullptr) return;  // this type is left as it is
  ggml_backend_tensor_set(w, weight, 0, ggml_nbytes(w));
  s.buffer.reset(ggml_backend_alloc_ctx_tensors(s.context.get(), s.backend.get()));
  ggml_backend_tensor_set(input, x.data, 0, ggml_nbytes(input));
  s.graph = ggml_new_graph(s.context.get());
  ggml_build_forward_expand(s.graph, y);

  ggml_backend_cpu_set_n_threads(s.backend.get(), num_threads());
  s.y = y;
}

GgmlProduct::~GgmlProduct() = default;

bool GgmlProduct::possible() const { return state_->y != nullptr; }

void GgmlProduct::run() {
  if (ggml_backend_graph_compute(state_->backend.get(), state_->graph) != GGML_STATUS_SUCCESS) {
    throw Error(ErrorCode::kUnsupported, "ggml did not compute a matrix product");
  }
}

Matrix<const float> GgmlProduct::result() const {
  const ggml_tensor& y = *state_->y;
  return {static_cast<const float*>(y.data), static_cast<size_t>(y.ne[1]),
          static_cast<size_t>(y.ne[0])};
}

}  // namespace restkv::bench
