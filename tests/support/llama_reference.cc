#include "support/llama_reference.h"

#include <cmath>
#include <cstdint>
#include <numbers>
#include <stdexcept>

#include "model/ggml_log.h"

namespace restkv::testing {

namespace {

/// Called before (`ask`) and after a node of libllama's graph is computed.
bool compute_gelu(ggml_tensor* node, bool ask, void* /*user_data*/) {
  const bool geglu = node->op == GGML_OP_GLU && ggml_get_glu_op(node) == GGML_GLU_OP_GEGLU;
  if (ask || !geglu) return geglu || !ask;
  const float* gate = ggml_get_data_f32(node->src[0]);
  const float* up = ggml_get_data_f32(node->src[1]);
  float* out = ggml_get_data_f32(node);
  for (int64_t i = 0; i < ggml_nelements(node); ++i) {
    const double x = gate[i];
    const double inner = std::sqrt(2 / std::numbers::pi) * (x + 0.044715 * x * x * x);
    out[i] = static_cast<float>(0.5 * x * (1 + std::tanh(inner)) * up[i]);
  }
  return true;
}

}  // namespace

LlamaReference::LlamaReference(const std::string& path, const Options& options) {
  capture_ggml_log();
  llama_backend_init();
  model_.reset(llama_model_load_from_file(path.c_str(), llama_model_default_params()));
  if (model_ == nullptr) {
    throw std::runtime_error("libllama cannot load " + path + ": " + take_ggml_errors());
  }
  llama_context_params params = llama_context_default_params();
  params.n_ctx = options.context;
  params.n_batch = options.context;
  params.n_threads = options.threads;
  params.n_threads_batch = options.threads;
  if (options.exact_gelu) params.cb_eval = compute_gelu;
  params.type_k = GGML_TYPE_F32;
  params.type_v = GGML_TYPE_F32;
  params.flash_attn_type = LLAMA_FLASH_ATTN_TYPE_DISABLED;
  context_.reset(llama_init_from_model(model_.get(), params));
  if (context_ == nullptr) {
    throw std::runtime_error("libllama cannot run " + path + ": " + take_ggml_errors());
  }
}

size_t LlamaReference::vocabulary() const {
  return static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model_.get())));
}

void LlamaReference::feed(std::span<const int32_t> tokens) {
  llama_batch batch = llama_batch_init(static_cast<int32_t>(tokens.size()), 0, 1);
  batch.n_tokens = static_cast<int32_t>(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    batch.token[i] = tokens[i];
    batch.pos[i] = next_++;
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = 0;
    batch.logits[i] = 1;
  }
  const int status = llama_decode(context_.get(), batch);
  llama_batch_free(batch);
  if (status != 0) throw std::runtime_error("llama_decode failed");
}

std::span<const float> LlamaReference::logits(size_t i) const {
  return {llama_get_logits_ith(context_.get(), static_cast<int32_t>(i)), vocabulary()};
}

void LlamaReference::restart() {
  llama_memory_clear(llama_get_memory(context_.get()), true);
  next_ = 0;
}

}  // namespace restkv::testing
