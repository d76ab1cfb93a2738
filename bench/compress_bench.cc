// What choosing the tokens to keep costs, per layer: methods over prompt lengths and head shapes.

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "restkv/compress.h"

namespace restkv {
namespace {

std::vector<float> normal_values(size_t size, uint32_t seed) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(size);
  for (float& x : values) x = normal(engine);
  return values;
}

/// One layer of random keys, values, window queries and W_O.
struct Layer {
  Layer(size_t query_heads, size_t kv_heads, size_t dim, size_t length)
      : q(normal_values(query_heads * 32 * dim, 1)),
        k(normal_values(kv_heads * length * dim, 2)),
        v(normal_values(kv_heads * length * dim, 3)),
        wo(normal_values(query_heads * dim * query_heads * dim, 4)),
        factor({wo.data(), query_heads * dim, query_heads * dim}, query_heads, dim) {
    view.queries = {q.data(), query_heads, 32, dim};
    view.keys = {k.data(), kv_heads, length, dim};
    view.values = {v.data(), kv_heads, length, dim};
    view.output = &factor;
  }

  std::vector<float> q, k, v, wo;
  OutputFactor factor;
  LayerObservation view;
};

/// Arguments: query heads, KV heads, head size, prompt length.
void select(benchmark::State& state, CompressionOptions options) {
  const auto argument = [&](int i) { return static_cast<size_t>(state.range(i)); };
  const Layer layer(argument(0), argument(1), argument(2), argument(3));
  options.budget = 1024;
  for (auto _ : state) benchmark::DoNotOptimize(select_tokens(layer.view, options));
  state.counters["positions/s"] = benchmark::Counter(static_cast<double>(layer.view.keys.rows),
                                                     benchmark::Counter::kIsIterationInvariantRate);
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->ArgNames({"heads", "kv", "d", "n"});
  for (const int64_t n : {4096, 32768}) {
    bench->Args({9, 3, 64, n});    // SmolLM2-135M
    bench->Args({4, 1, 256, n});   // Gemma 3 270M
    bench->Args({32, 8, 128, n});  // Llama 3 8B
  }
  bench->Unit(benchmark::kMillisecond)->UseRealTime();
}

CompressionOptions restkv_before() {
  CompressionOptions options = default_options("restkv");
  options.order = ReconstructionOrder::kBefore;
  return options;
}

BENCHMARK_CAPTURE(select, snapkv, default_options("snapkv"))->Apply(shapes);
BENCHMARK_CAPTURE(select, restkv_after, default_options("restkv"))->Apply(shapes);
BENCHMARK_CAPTURE(select, restkv_before, restkv_before())->Apply(shapes);

/// Arguments: query heads, head size. Once per model and layer.
void output_factor(benchmark::State& state) {
  const auto heads = static_cast<size_t>(state.range(0));
  const auto dim = static_cast<size_t>(state.range(1));
  const auto wo = normal_values(heads * dim * heads * dim, 5);
  for (auto _ : state) {
    benchmark::DoNotOptimize(OutputFactor({wo.data(), heads * dim, heads * dim}, heads, dim));
  }
}
BENCHMARK(output_factor)
    ->ArgNames({"heads", "d"})
    ->Args({9, 64})
    ->Args({32, 128})
    ->Unit(benchmark::kMillisecond)
    ->UseRealTime();

}  // namespace
}  // namespace restkv

BENCHMARK_MAIN();
