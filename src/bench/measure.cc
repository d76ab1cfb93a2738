#include "bench/measure.h"

#include <algorithm>
#include <numeric>
#include <optional>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/threads.h"
#include "bench/child.h"
#include "bench/machine.h"
#include "bench/work.h"
#include "restkv/conversation.h"
#include "restkv/engine.h"
#include "restkv/model.h"
#include "restkv/sparse.h"
#include "restkv/tokenizer.h"

namespace restkv::bench {
namespace {

constexpr size_t kWarmUpTokens = 512;

int32_t most_likely(std::span<const float> logits) {
  return static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

}  // namespace

Measurement time_runtime(const Runtime& runtime, const Job& job) {
  const std::span<const int32_t> prompt(job.prompt);
  Measurement m;
  int32_t token = prompt.back();
  if (job.synthetic) {
    runtime.fill(prompt.size());
    token = most_likely(runtime.decode(token));
  } else {
    runtime.decode(
        most_likely(runtime.prefill(prompt.first(std::min(prompt.size(), kWarmUpTokens)))));
    m.prefill_seconds = seconds([&] { token = most_likely(runtime.prefill(prompt)); });
  }
  m.decoded.reserve(job.decode);
  m.decode_seconds = seconds([&] {
    while (m.decoded.size() < job.decode) {
      m.decoded.push_back(token);
      token = most_likely(runtime.decode(token));
    }
  });
  return m;
}

KvCache synthetic_cache(const ModelConfig& config, size_t tokens, size_t kept, KvType type) {
  KvCache cache(config.layers, config.kv_heads, config.key_dim, config.value_dim, type);
  const size_t most = std::min(tokens, std::max(kept, *std::ranges::max_element(config.windows)));
  const auto keys = random_floats(config.kv_heads * most * config.key_dim);
  const auto values = random_floats(config.kv_heads * most * config.value_dim);
  for (size_t layer = 0; layer < config.layers; ++layer) {
    const size_t window = config.windows[layer];
    const size_t rows = std::min(tokens, window > 0 ? window : kept);
    std::vector<int32_t> all(rows);
    std::iota(all.begin(), all.end(), 0);
    std::vector<int32_t> positions(most);
    std::iota(positions.begin(), positions.end(), static_cast<int32_t>(tokens - rows));
    cache.gather(layer, {keys.data(), config.kv_heads, most, config.key_dim},
                 {values.data(), config.kv_heads, most, config.value_dim},
                 {std::vector(config.kv_heads, all)}, std::vector(config.kv_heads, positions));
    if (window > 0) cache.limit(layer, window);
  }
  cache.next_position = tokens;
  return cache;
}

Measurement measure_restkv(const Job& job) {
  const Model model(job.model, job.model_options);
  const Tokenizer tokenizer(job.model);  // rarely used, but part of a program's memory
  Engine engine(model);
  CacheRequest request;
  request.options = job.compression;
  std::optional<RepeatPrompt> words;
  if (repeat_chunk(request.options) > 0) {
    words = Conversation::plain_text(tokenizer, false).repeat_prompt();
  }
  request.kv_type = job.kv_type;
  const double output_factor_seconds = seconds([&] {
    if (job.synthetic || !needs_output_factor(request.options)) return;
    for (size_t layer = 0; layer < model.config().layers; ++layer) {
      static_cast<void>(model.output_factor(layer));
    }
  });
  const bool full = request.options.method == "full";
  SparseOptions sparse = parse_sparse(job.sparse);
  sparse.measure_recall = job.sparse_recall;
  std::vector<float> logits;
  size_t kv_bytes = 0;
  Measurement m = time_runtime(
      {.prefill =
           [&](std::span<const int32_t> prompt) {
             engine.set_sparse(sparse);  // and begin its report anew
             logits = engine.prefill(prompt, {&request, 1}, {}, words);
             kv_bytes = request.cache.kept_bytes();
             return std::span<const float>(logits);
           },
       .decode = [&](int32_t token) { return engine.decode(token, request.cache); },
       .fill =
           [&](size_t tokens) {
             const size_t kept =
                 full ? tokens : std::min(tokens, static_cast<size_t>(request.options.budget));
             request.cache = synthetic_cache(model.config(), tokens, kept, request.kv_type);
             kv_bytes = request.cache.kept_bytes();
           }},
      job);
  m.compress_seconds = job.synthetic ? 0 : request.compress_seconds;
  m.output_factor_seconds = output_factor_seconds;
  m.kv_bytes = kv_bytes;
  if (!job.synthetic) {
    const SparseReport::Head seen = engine.sparse_report().total();
    if (seen.visible_tiles > 0) m.sparse_density = seen.density();
    if (job.sparse_recall && seen.visible_tiles > 0) {
      m.sparse_recall = seen.recall();
      m.prefill_seconds -= engine.sparse_report().recall_seconds;
    }
    m.prefill_flops = prefill_flops(model, job.prompt.size(), request.options, m.sparse_density);
    if (words) {
      m.prefill_flops += repeat_flops(
          model, job.prompt.size(), repeat_feeds(job.prompt, repeat_pass(request.options), *words));
    }
  }
  // The cache grows during decoding: uses the mean of its sizes before and after.
  m.decode_bytes = static_cast<double>(weight_bytes(model)) +
                   static_cast<double>(kv_bytes + request.cache.kept_bytes()) / 2;
  return m;
}

std::string run_job(std::string_view input, const std::function<Measurement(const Job&)>& measure) {
  const Job job = parse_job(input);
  set_num_threads(job.threads);
  if (job.side == kMachine) return to_json(measure_limits()).dump();
  return to_json(measure(job)).dump();
}

Measurement measure_in_process(std::span<const std::string> arguments, const Job& job,
                               std::string_view what, const std::function<bool()>& stopped) {
  const ChildResult child = run_again(arguments, to_text(job), what, stopped);
  Measurement m = parse_measurement(child.output);
  m.peak_resident_bytes = child.peak_resident_bytes;
  return m;
}

Limits limits_in_process(std::span<const std::string> arguments, int threads,
                         const std::function<bool()>& stopped) {
  Job job;
  job.side = kMachine;
  job.threads = threads;
  const Json json =
      parse_json(run_again(arguments, to_text(job), "the machine's limits", stopped).output);
  return {.sgemm_flops_per_second = number_field(json, "sgemm_flops_per_second"),
          .read_bytes_per_second = number_field(json, "read_bytes_per_second")};
}

}  // namespace restkv::bench
