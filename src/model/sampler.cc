#include "restkv/sampler.h"

#include <fmt/format.h>
#include <llama.h>

#include "model/ggml_log.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void require(bool ok, const char* option, double value, const char* range) {
  if (ok) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} is {}; expected {}", option, value, range));
}

}  // namespace

struct Sampler::Impl {
  std::unique_ptr<llama_sampler, decltype(&llama_sampler_free)> chain{nullptr, llama_sampler_free};
  std::vector<llama_token_data> candidates;
};

Sampler::Sampler(const SamplingOptions& o, size_t vocabulary) : impl_(std::make_unique<Impl>()) {
  require(o.temperature >= 0, "temp", o.temperature, "0 or more");
  require(o.top_k >= 0, "top-k", o.top_k, "0 or more");
  require(o.top_p > 0 && o.top_p <= 1, "top-p", o.top_p, "a value in (0, 1]");
  require(o.min_p >= 0 && o.min_p <= 1, "min-p", o.min_p, "a value in [0, 1]");
  require(o.repeat_last_n >= 0, "repeat-last-n", o.repeat_last_n, "0 or more");
  require(o.repeat_penalty > 0, "repeat-penalty", o.repeat_penalty, "a value above 0");
  capture_ggml_log();
  impl_->chain.reset(llama_sampler_chain_init(llama_sampler_chain_default_params()));
  llama_sampler* chain = impl_->chain.get();
  if (o.repeat_penalty != 1 || o.presence_penalty != 0 || o.frequency_penalty != 0) {
    llama_sampler_chain_add(chain, llama_sampler_init_penalties(
                                       static_cast<int32_t>(vocabulary), o.repeat_last_n,
                                       o.repeat_penalty, o.frequency_penalty, o.presence_penalty));
  }
  if (o.temperature == 0) {
    llama_sampler_chain_add(chain, llama_sampler_init_greedy());
    return;
  }
  if (o.top_k > 0) llama_sampler_chain_add(chain, llama_sampler_init_top_k(o.top_k));
  if (o.top_p < 1) llama_sampler_chain_add(chain, llama_sampler_init_top_p(o.top_p, 1));
  if (o.min_p > 0) llama_sampler_chain_add(chain, llama_sampler_init_min_p(o.min_p, 1));
  llama_sampler_chain_add(chain, llama_sampler_init_temp(o.temperature));
  llama_sampler_chain_add(chain, llama_sampler_init_dist(o.seed));
}

Sampler::~Sampler() = default;

int32_t Sampler::sample(std::span<const float> logits) {
  auto& candidates = impl_->candidates;
  candidates.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates[i] = {static_cast<llama_token>(i), logits[i], 0.0F};
  }
  llama_token_data_array array{candidates.data(), candidates.size(), -1, false};
  llama_sampler_apply(impl_->chain.get(), &array);
  const llama_token token = array.data[array.selected].id;
  llama_sampler_accept(impl_->chain.get(), token);
  return token;
}

}  // namespace restkv
