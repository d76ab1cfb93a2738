#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include "bench/job.h"
#include "bench/machine.h"
#include "restkv/kv_cache.h"

namespace restkv::bench {

/// Interface of a runtime. `prefill` and `decode` return the logits of the last token.
struct Runtime {
  /// Reads a prompt into an empty cache.
  std::function<std::span<const float>(std::span<const int32_t>)> prefill;
  /// Appends one token.
  std::function<std::span<const float>(int32_t)> decode;
  /// Fills the cache with random rows as after this many tokens.
  std::function<void(size_t)> fill;
};

/// Measures any runtime once after a warm-up. The warm-up (the first 512 tokens and one decoded
/// token) pages the weights in and lets oneDNN generate its code, as in a program that has run for
/// a while.
Measurement time_runtime(const Runtime& runtime, const Job& job);

/// A job in restkv itself. Throws `Error`.
Measurement measure_restkv(const Job& job);

/// The cache of a model after `tokens` tokens of which each head of a layer with full attention
/// kept `kept`: seeded random rows, the same in every layer.
KvCache synthetic_cache(const ModelConfig& config, size_t tokens, size_t kept, KvType type);

/// Runs in a separate process: reads a job from `input`, measures it by `measure` (default: restkv)
/// and returns the result as JSON.
std::string run_job(std::string_view input,
                    const std::function<Measurement(const Job&)>& measure = measure_restkv);

/// Starts this program again with `arguments`, which make it call `run_job`, and adds the peak
/// memory of that process. `what` and `stopped` as in `run_again`; throws like it.
Measurement measure_in_process(std::span<const std::string> arguments, const Job& job,
                               std::string_view what, const std::function<bool()>& stopped);
Limits limits_in_process(std::span<const std::string> arguments, int threads,
                         const std::function<bool()>& stopped);

}  // namespace restkv::bench
