// What common/common.cpp calls of the files that are left out: to load models for llama.cpp's own
// programs.
#include <stdexcept>

#include "common/fit.h"
#include "common/sampling.h"
#include "common/speculative.h"

namespace {
[[noreturn]] void left_out() {
  throw std::logic_error("this libllama-common has neither samplers nor speculation");
}
}  // namespace

common_sampler* common_sampler_init(const llama_model*, common_params_sampling&) { left_out(); }
void common_sampler_free(common_sampler*) {}  // there is none
llama_sampler* common_sampler_get(const common_sampler*) { left_out(); }
std::vector<common_sampler_type> common_sampler_types_from_names(const std::vector<std::string>&) {
  left_out();
}
common_params common_base_params_to_speculative(const common_params&) { left_out(); }
common_params_fit_status common_fit_params(const char*, llama_model_params*, llama_context_params*,
                                           float*, llama_model_tensor_buft_override*, size_t*,
                                           uint32_t, const common_fit_extra_model*,
                                           ggml_log_level) {
  left_out();
}
