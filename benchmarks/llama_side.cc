#include "llama_side.h"

#include <fmt/format.h>
#include <llama.h>

#include <algorithm>
#include <memory>
#include <span>
#include <vector>

#include "bench/measure.h"
#include "model/ggml_log.h"
#include "restkv/error.h"

namespace restkv::bench {
namespace {

/// A context of libllama with its operations.
class Llama {
 public:
  Llama(const Job& job, bool flash_attention, uint32_t ubatch);

  std::span<const float> prefill(std::span<const int32_t> prompt);
  std::span<const float> decode(int32_t token);
  void fill(std::span<const int32_t> prompt, size_t tail);

 private:
  [[noreturn]] void fail(const std::string& what) const;
  /// Appends up to a batch of tokens to sequence 0.
  void append(std::span<const int32_t> tokens, bool wants_logits);
  void append_all(std::span<const int32_t> tokens);
  [[nodiscard]] std::span<const float> logits() const {
    return {llama_get_logits_ith(context_.get(), -1), vocabulary_};
  }

  std::string model_path_;
  std::unique_ptr<llama_model, decltype(&llama_model_free)> model_{nullptr, llama_model_free};
  std::unique_ptr<llama_context, decltype(&llama_free)> context_{nullptr, llama_free};
  size_t vocabulary_ = 0;
};

void Llama::fail(const std::string& what) const {
  throw Error(ErrorCode::kInput,
              fmt::format("{}: libllama cannot {}: {}", model_path_, what, take_ggml_errors()));
}

Llama::Llama(const Job& job, bool flash_attention, uint32_t ubatch) : model_path_(job.model) {
  capture_ggml_log();
  model_.reset(llama_model_load_from_file(job.model.c_str(), llama_model_default_params()));
  if (model_ == nullptr) fail("load it");
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(job.prompt.size() + job.decode + 1);
  params.n_batch = kLlamaBatch;
  params.n_ubatch = ubatch;
  params.n_outputs_max = 1;  // or it makes room for the logits of a whole batch
  params.n_threads = params.n_threads_batch = job.threads;
  params.flash_attn_type =
      flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  if (job.model_options.rope_factor > 1) {
    params.rope_scaling_type = LLAMA_ROPE_SCALING_TYPE_LINEAR;
    params.rope_freq_scale = static_cast<float>(1 / job.model_options.rope_factor);
  }
  if (job.synthetic) {
    // A second sequence, through which rows come in; both in one buffer, as with a single one.
    params.n_seq_max = params.n_outputs_max = 2;
    params.kv_unified = true;
  }
  context_.reset(llama_init_from_model(model_.get(), params));
  if (context_ == nullptr) {
    fail(fmt::format("run it with flash attention {} and ubatch {}", flash_attention ? "on" : "off",
                     ubatch));
  }
  vocabulary_ = static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model_.get())));
}

void Llama::append(std::span<const int32_t> tokens, bool wants_logits) {
  std::vector<int32_t> copy(tokens.begin(), tokens.end());  // libllama needs mutable tokens
  std::vector<int8_t> wanted(tokens.size(), 0);
  wanted.back() = wants_logits ? 1 : 0;
  llama_batch batch = llama_batch_get_one(copy.data(), static_cast<int32_t>(copy.size()));
  batch.logits = wanted.data();
  if (const int code = llama_decode(context_.get(), batch); code != 0) {
    fail(fmt::format("compute {} tokens (code {})", tokens.size(), code));
  }
}

void Llama::append_all(std::span<const int32_t> tokens) {
  for (; tokens.size() > kLlamaBatch; tokens = tokens.subspan(kLlamaBatch)) {
    append(tokens.first(kLlamaBatch), false);
  }
  append(tokens, true);
}

std::span<const float> Llama::prefill(std::span<const int32_t> prompt) {
  llama_memory_clear(llama_get_memory(context_.get()), false);
  append_all(prompt);
  return logits();
}

std::span<const float> Llama::decode(int32_t token) {
  append({&token, 1}, true);
  return logits();
}

void Llama::fill(std::span<const int32_t> prompt, size_t tail) {
  constexpr size_t kRows = 256;
  constexpr llama_seq_id kFilled = 0;
  constexpr llama_seq_id kArriving = 1;
  const llama_memory_t memory = llama_get_memory(context_.get());
  const size_t rows = std::min(kRows, prompt.size());
  append(prompt.first(rows), true);
  size_t filled = rows;
  std::vector<uint8_t> state(llama_state_seq_get_size(context_.get(), kFilled));
  llama_state_seq_get_data(context_.get(), state.data(), state.size(), kFilled);
  for (; filled + rows + tail <= prompt.size(); filled += rows) {
    if (llama_state_seq_set_data(context_.get(), state.data(), state.size(), kArriving) == 0) {
      fail(fmt::format("take {} rows into its cache", rows));
    }
    llama_memory_seq_add(memory, kArriving, -1, -1, static_cast<llama_pos>(filled));
    llama_memory_seq_cp(memory, kArriving, kFilled, -1, -1);
    llama_memory_seq_rm(memory, kArriving, -1, -1);
  }
  if (filled < prompt.size()) append_all(prompt.subspan(filled));
}

}  // namespace

Measurement measure_llama(const Job& job, bool flash_attention, uint32_t ubatch) {
  Llama llama(job, flash_attention, ubatch);
  return time_runtime(
      {.prefill = [&](std::span<const int32_t> prompt) { return llama.prefill(prompt); },
       .decode = [&](int32_t token) { return llama.decode(token); },
       .fill = [&](size_t) { llama.fill(job.prompt, job.tail); }},
      job);
}

}  // namespace restkv::bench
