#include "sides.h"

#include <fmt/format.h>
#include <llama.h>

#include <algorithm>
#include <functional>
#include <memory>

#include "base/threads.h"
#include "machine.h"
#include "model/ggml_log.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/model.h"
#include "restkv/tokenizer.h"

namespace restkv::bench {
namespace {

constexpr size_t kWarmUpTokens = 512;
constexpr uint32_t kBatch = 2048;  // libllama's default
constexpr uint32_t kUbatch = 512;  // libllama's default

constexpr Side kSides[] = {
    {.name = "restkv", .full_cache = false},
    {.name = "llama", .llama = true, .ubatch = kUbatch},
    {.name = "restkv-full"},
    {.name = "llama-fa", .llama = true, .flash_attention = true, .ubatch = kUbatch},
    {.name = "llama-ubatch2048", .llama = true, .ubatch = kBatch},
    {.name = "llama-fa-ubatch2048", .llama = true, .flash_attention = true, .ubatch = kBatch},
};

int32_t most_likely(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

/// What both runtimes can do: read a prompt into an empty cache, and append one token. Both return
/// the logits of the last token.
struct Runtime {
  std::function<std::span<const float>(std::span<const int32_t>)> prefill;
  std::function<std::span<const float>(int32_t)> decode;
};

/// The measurement itself, the same for both. The warm-up pages the weights in and lets oneDNN
/// generate its code, so that the figures are those of a program that has been running for a while.
Measurement time_runtime(const Runtime& runtime, const Job& job) {
  const std::span<const int32_t> prompt(job.prompt);
  runtime.decode(
      most_likely(runtime.prefill(prompt.first(std::min(prompt.size(), kWarmUpTokens)))));

  Measurement m;
  int32_t token = 0;
  m.prefill_seconds = seconds([&] { token = most_likely(runtime.prefill(prompt)); });
  m.decoded.reserve(job.decode);
  m.decode_seconds = seconds([&] {
    while (m.decoded.size() < job.decode) {
      m.decoded.push_back(token);
      token = most_likely(runtime.decode(token));
    }
  });
  return m;
}

Measurement measure_restkv(const Side& side, const Job& job) {
  const Model model(job.model);
  const Tokenizer tokenizer(job.model);  // unused, but part of what a program holds in memory
  Engine engine(model);
  CacheRequest request;
  request.options = side.full_cache ? default_options("full") : job.compression;
  const double output_factor_seconds = seconds([&] {
    if (!needs_output_factor(request.options)) return;
    for (size_t layer = 0; layer < model.config().layers; ++layer) {
      static_cast<void>(model.output_factor(layer));
    }
  });

  std::vector<float> logits;
  size_t kv_bytes = 0;
  Measurement m =
      time_runtime({.prefill =
                        [&](std::span<const int32_t> prompt) {
                          logits = engine.prefill(prompt, {&request, 1});
                          kv_bytes = request.cache.kept_bytes();
                          return std::span<const float>(logits);
                        },
                    .decode = [&](int32_t token) { return engine.decode(token, request.cache); }},
                   job);
  m.compress_seconds = request.compress_seconds;
  m.output_factor_seconds = output_factor_seconds;
  m.kv_bytes = kv_bytes;
  return m;
}

Measurement measure_llama(const Side& side, const Job& job) {
  capture_ggml_log();
  const std::unique_ptr<llama_model, decltype(&llama_model_free)> model(
      llama_model_load_from_file(job.model.c_str(), llama_model_default_params()),
      llama_model_free);
  if (model == nullptr) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: libllama cannot load it: {}", job.model, take_ggml_errors()));
  }
  llama_context_params params = llama_context_default_params();
  params.n_ctx = static_cast<uint32_t>(job.prompt.size() + job.decode);
  params.n_batch = kBatch;
  params.n_ubatch = side.ubatch;
  params.n_outputs_max = 1;  // or it makes room for the logits of a whole batch
  params.n_threads = params.n_threads_batch = job.threads;
  params.flash_attn_type =
      side.flash_attention ? LLAMA_FLASH_ATTN_TYPE_ENABLED : LLAMA_FLASH_ATTN_TYPE_DISABLED;
  const std::unique_ptr<llama_context, decltype(&llama_free)> context(
      llama_init_from_model(model.get(), params), llama_free);
  if (context == nullptr) {
    throw Error(ErrorCode::kInput, fmt::format("{}: libllama cannot run it with {}: {}", job.model,
                                               side.title(job.compression), take_ggml_errors()));
  }
  const auto vocabulary =
      static_cast<size_t>(llama_vocab_n_tokens(llama_model_get_vocab(model.get())));

  const auto append = [&](std::span<const int32_t> tokens, bool last) {
    std::vector<int32_t> copy(tokens.begin(), tokens.end());  // libllama wants them mutable
    std::vector<int8_t> wanted(tokens.size(), 0);
    wanted.back() = last ? 1 : 0;
    llama_batch batch = llama_batch_get_one(copy.data(), static_cast<int32_t>(copy.size()));
    batch.logits = wanted.data();
    if (const int code = llama_decode(context.get(), batch); code != 0) {
      throw Error(
          ErrorCode::kInput,
          fmt::format("libllama cannot compute {} tokens with {} (code {}): {}", tokens.size(),
                      side.title(job.compression), code, take_ggml_errors()));
    }
  };
  const auto logits = [&] {
    return std::span<const float>(llama_get_logits_ith(context.get(), -1), vocabulary);
  };
  return time_runtime({.prefill =
                           [&](std::span<const int32_t> prompt) {
                             llama_memory_clear(llama_get_memory(context.get()), false);
                             while (prompt.size() > kBatch) {
                               append(prompt.first(kBatch), false);
                               prompt = prompt.subspan(kBatch);
                             }
                             append(prompt, true);
                             return logits();
                           },
                       .decode =
                           [&](int32_t token) {
                             append({&token, 1}, true);
                             return logits();
                           }},
                      job);
}

}  // namespace

std::string Side::title(const CompressionOptions& compression) const {
  if (llama) {
    return fmt::format("llama.cpp (flash attention {}, ubatch {})", flash_attention ? "on" : "off",
                       ubatch);
  }
  if (full_cache) return "restkv (full cache)";
  return fmt::format("restkv ({}, budget {})", compression.method, compression.budget);
}

bool Side::applies(size_t prompt_tokens, const CompressionOptions& compression) const {
  if (llama) return ubatch == kUbatch || prompt_tokens > kUbatch;
  return full_cache || compression.method != "full";
}

std::span<const Side> sides() { return kSides; }

const Side& find_side(std::string_view name) {
  const auto* side = std::find_if(std::begin(kSides), std::end(kSides),
                                  [&](const Side& s) { return s.name == name; });
  if (side == std::end(kSides)) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format("--only {}: there is no such side", name));
  }
  return *side;
}

Measurement measure(const Side& side, const Job& job) {
  set_num_threads(job.threads);
  return side.llama ? measure_llama(side, job) : measure_restkv(side, job);
}

}  // namespace restkv::bench
