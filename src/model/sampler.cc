#include "restkv/sampler.h"

#include <fmt/format.h>
#include <llama.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "model/ggml_log.h"
#include "restkv/error.h"

namespace restkv {
namespace {

template <class Number>
void require(bool ok, const char* option, Number value, const char* range) {
  if (ok) return;
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} is {}; expected {}", option, value, range));
}

/// Bound of factors and differences of logits: larger ones could overflow sums of finite logits.
bool is_moderate(float value) { return std::abs(value) <= 1e6F; }
bool is_moderate_factor(float value) { return value >= 1e-6F && value <= 1e6F; }

/// NaN is neither larger nor smaller than anything: the first token would win whatever it is.
void require_numbers(std::span<const float> logits) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  int unusable = 0;  // of a form that compilers vectorise
  for (const float logit : logits) unusable |= static_cast<int>(!(logit < kInfinity));
  if (unusable == 0) return;
  const auto first = std::ranges::find_if(logits, [](float x) { return !(x < kInfinity); });
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("the logit of token {} is {}; expected a number, or minus infinity for a "
                          "token that is forbidden",
                          first - logits.begin(), *first));
}

}  // namespace

struct Sampler::Impl {
  std::unique_ptr<llama_sampler, decltype(&llama_sampler_free)> chain{nullptr, llama_sampler_free};
  std::vector<llama_token_data> candidates;
  bool takes_the_first = false;  ///< Of the likeliest tokens: nothing else is asked of it.
};

void validate(const SamplingOptions& o) {
  require(o.temperature == 0 || is_moderate_factor(o.temperature), "temperature", o.temperature,
          "0, or a value from 0.000001 to 1000000");
  require(o.top_k >= 0, "top_k", o.top_k, "0 or more");
  require(o.top_p > 0 && o.top_p <= 1, "top_p", o.top_p, "a value in (0, 1]");
  require(o.min_p >= 0 && o.min_p <= 1, "min_p", o.min_p, "a value in [0, 1]");
  require(o.repeat_last_n >= 0 && o.repeat_last_n <= 1'000'000, "repeat_last_n", o.repeat_last_n,
          "0 to 1000000");
  require(is_moderate_factor(o.repeat_penalty), "repeat_penalty", o.repeat_penalty,
          "a value from 0.000001 to 1000000");
  require(is_moderate(o.presence_penalty), "presence_penalty", o.presence_penalty,
          "a value from -1000000 to 1000000");
  require(is_moderate(o.frequency_penalty), "frequency_penalty", o.frequency_penalty,
          "a value from -1000000 to 1000000");
  require(o.seed != LLAMA_DEFAULT_SEED, "seed", o.seed,
          "0 to 4294967294 (libllama takes this one for any seed)");
}

Sampler::Sampler(const SamplingOptions& o, size_t vocabulary) : impl_(std::make_unique<Impl>()) {
  validate(o);
  capture_ggml_log();
  impl_->chain.reset(llama_sampler_chain_init(llama_sampler_chain_default_params()));
  llama_sampler* chain = impl_->chain.get();
  if (o.repeat_penalty != 1 || o.presence_penalty != 0 || o.frequency_penalty != 0) {
    llama_sampler_chain_add(chain, llama_sampler_init_penalties(
                                       static_cast<int32_t>(vocabulary), o.repeat_last_n,
                                       o.repeat_penalty, o.frequency_penalty, o.presence_penalty));
  }
  if (o.temperature == 0) {
    impl_->takes_the_first = llama_sampler_chain_n(chain) == 0;
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
  const int32_t token = pick(logits);
  remember(token);
  return token;
}

void Sampler::remember(int32_t token) {
  if (!impl_->takes_the_first) llama_sampler_accept(impl_->chain.get(), token);
}

int32_t Sampler::pick(std::span<const float> logits) {
  require_numbers(logits);
  if (impl_->takes_the_first) {
    return static_cast<int32_t>(std::ranges::max_element(logits) - logits.begin());
  }
  auto& candidates = impl_->candidates;
  candidates.resize(logits.size());
  for (size_t i = 0; i < logits.size(); ++i) {
    candidates[i] = {static_cast<llama_token>(i), logits[i], 0.0F};
  }
  llama_token_data_array array{candidates.data(), candidates.size(), -1, false};
  llama_sampler_apply(impl_->chain.get(), &array);
  return array.data[array.selected].id;
}

}  // namespace restkv
