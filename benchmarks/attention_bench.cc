// Prefill attention against the machine's f32 GEMM rate (oneDNN), and decode attention against its
// read bandwidth, measured in the same run.

#include <benchmark/benchmark.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <numeric>
#include <vector>

#include "attention/attention_precision.h"
#include "bench/machine.h"
#include "hwy/highway.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/kv_cache.h"

namespace {

using restkv::AlignedVector;
using restkv::Heads;
using restkv::bench::gemm_rate;
using restkv::bench::random_floats;
using restkv::bench::read_bandwidth;
using restkv::bench::seconds;

/// Relative root mean square error of a block, from a row of each head computed in float64.
double relative_error(Heads<const float> queries, Heads<const float> keys,
                      Heads<const float> values, size_t first, Heads<const float> out) {
  double error = 0;
  double magnitude = 0;
  const double scale = 1 / std::sqrt(static_cast<double>(keys.dim));
  for (size_t h = 0; h < queries.heads; ++h) {
    const size_t kv_head = h * keys.heads / queries.heads;
    const size_t row = h * 29 % queries.rows;
    std::vector<double> exact(values.dim);
    double total = 0;
    for (size_t j = 0; j <= first + row; ++j) {
      const float* q = queries.row(h, row);
      const double weight =
          std::exp(scale * std::inner_product(q, q + keys.dim, keys.row(kv_head, j), 0.0));
      total += weight;
      for (size_t c = 0; c < values.dim; ++c) exact[c] += weight * values.row(kv_head, j)[c];
    }
    for (size_t c = 0; c < values.dim; ++c) {
      const double x = exact[c] / total;
      error += std::pow(x - out.row(h, row)[c], 2);
      magnitude += x * x;
    }
  }
  return std::sqrt(error / magnitude);
}

void prefill(benchmark::State& state, restkv::AttentionPrecision precision) {
  if (!restkv::supports(precision)) {
    state.SkipWithError("this processor has no instructions for it");
    return;
  }
  const auto heads = static_cast<size_t>(state.range(0));
  const auto kv_heads = static_cast<size_t>(state.range(1));
  const auto dim = static_cast<size_t>(state.range(2));
  const auto n = static_cast<size_t>(state.range(3));
  constexpr size_t kBlock = 512;
  const auto q = random_floats(heads * kBlock * dim);
  const auto k = random_floats(kv_heads * n * dim);
  const auto v = random_floats(kv_heads * n * dim);
  AlignedVector<float> out(heads * kBlock * dim);
  const Heads<const float> queries(q.data(), heads, kBlock, dim);
  const Heads<const float> keys(k.data(), kv_heads, n, dim);
  const Heads<const float> values(v.data(), kv_heads, n, dim);
  restkv::AttentionOptions options;
  options.precision = precision;
  const double limit = gemm_rate();
  double best = 1e30;
  for (auto _ : state) {
    const double t = seconds([&] {
      for (size_t first = 0; first < n; first += kBlock) {
        restkv::prefill_attention(queries, keys, values, first, options,
                                  {out.data(), heads, kBlock, dim});
      }
    });
    best = std::min(best, t);
  }
  const auto nn = static_cast<double>(n);
  const double flops = 2.0 * static_cast<double>(heads * dim) * nn * (nn + 1);
  state.counters["GFLOPS"] = flops / best * 1e-9;
  state.counters["sgemm"] = limit * 1e-9;
  state.counters["ratio"] = flops / best / limit;
  state.counters["error"] =
      relative_error(queries, keys, values, n - kBlock, {out.data(), heads, kBlock, dim});
}
void prefill_shapes(benchmark::internal::Benchmark* bench) {
  bench->Args({9, 3, 64, 8192})
      ->Args({32, 8, 128, 8192})
      ->Args({8, 4, 256, 4096})
      ->Iterations(3)
      ->Unit(benchmark::kMillisecond);
}
BENCHMARK_CAPTURE(prefill, f32, restkv::AttentionPrecision::kF32)->Apply(prefill_shapes);
BENCHMARK_CAPTURE(prefill, bf16, restkv::AttentionPrecision::kBf16)->Apply(prefill_shapes);
BENCHMARK_CAPTURE(prefill, int8, restkv::AttentionPrecision::kInt8)->Apply(prefill_shapes);

/// The second pass of h2o, as a share of the time of the attention before it.
void column_sums(benchmark::State& state) {
  const auto heads = static_cast<size_t>(state.range(0));
  const auto kv_heads = static_cast<size_t>(state.range(1));
  const auto dim = static_cast<size_t>(state.range(2));
  const auto n = static_cast<size_t>(state.range(3));
  constexpr size_t kBlock = 512;
  const auto q = random_floats(heads * kBlock * dim);
  const auto k = random_floats(kv_heads * n * dim);
  const auto v = random_floats(kv_heads * n * dim);
  AlignedVector<float> out(heads * kBlock * dim), lse(heads * kBlock), sums(heads * n);
  const Heads<const float> queries(q.data(), heads, kBlock, dim);
  const Heads<const float> keys(k.data(), kv_heads, n, dim);
  const restkv::Matrix<float> rows(lse.data(), heads, kBlock);
  double attention = 1e30;
  double second = 1e30;
  for (auto _ : state) {
    double attention_now = 0;
    double second_now = 0;
    for (size_t first = 0; first < n; first += kBlock) {
      attention_now += seconds([&] {
        restkv::prefill_attention(queries, keys, {v.data(), kv_heads, n, dim}, first, {},
                                  {out.data(), heads, kBlock, dim}, rows);
      });
      second_now += seconds([&] {
        restkv::attention_sums(queries, keys, first, {}, rows, {sums.data(), heads, n});
      });
    }
    attention = std::min(attention, attention_now);
    second = std::min(second, second_now);
  }
  state.counters["attention_ms"] = attention * 1e3;
  state.counters["sums_ms"] = second * 1e3;
  state.counters["ratio"] = second / attention;
}
BENCHMARK(column_sums)
    ->Args({9, 3, 64, 8192})
    ->Args({32, 8, 128, 4096})
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond);

/// One token over `n` rows per KV head. The ratio is to reading the cache's own bytes once.
void decode(benchmark::State& state, restkv::KvType type) {
  const auto heads = static_cast<size_t>(state.range(0));
  const auto kv_heads = static_cast<size_t>(state.range(1));
  const auto dim = static_cast<size_t>(state.range(2));
  const auto n = static_cast<size_t>(state.range(3));
  const auto q = random_floats(heads * dim);
  restkv::KvCache cache(1, kv_heads, dim, dim, type);
  {
    const auto rows = random_floats(kv_heads * n * dim);
    std::vector<int32_t> all(n);
    std::iota(all.begin(), all.end(), 0);
    const Heads<const float> view(rows.data(), kv_heads, n, dim);
    cache.gather(0, view, view, {std::vector(kv_heads, all)});
  }
  AlignedVector<float> out(heads * dim);
  const auto bytes = static_cast<double>(cache.kept_bytes());
  double limit = 0;
  double best = 1e30;
  for (auto _ : state) {
    limit = std::max(limit, read_bandwidth());  // alternates with the measurement
    for (int run = 0; run < 3; ++run) {
      best = std::min(best, seconds([&] {
                        restkv::decode_attention({q.data(), heads, dim}, cache.heads(0), {},
                                                 {out.data(), heads, dim});
                      }));
    }
  }
  state.counters["ms"] = best * 1e3;
  state.counters["GB/s"] = bytes / best * 1e-9;
  state.counters["read"] = limit * 1e-9;
  state.counters["ratio"] = bytes / best / limit;
}
void decode_shapes(benchmark::internal::Benchmark* bench) {
  bench->Args({9, 3, 64, 1024})
      ->Args({9, 3, 64, 32768})
      ->Args({9, 3, 64, 131072})
      ->Args({32, 8, 128, 32768})
      ->Args({32, 8, 128, 131072})
      ->Args({8, 4, 256, 32768})
      ->Iterations(5)
      ->Unit(benchmark::kMillisecond);
}
BENCHMARK_CAPTURE(decode, f16, restkv::KvType::kF16)->Apply(decode_shapes);
BENCHMARK_CAPTURE(decode, f32, restkv::KvType::kF32)->Apply(decode_shapes);
BENCHMARK_CAPTURE(decode, q8, restkv::KvType::kQ8)->Apply(decode_shapes);
BENCHMARK_CAPTURE(decode, q4, restkv::KvType::kQ4)->Apply(decode_shapes);

}  // namespace

// RESTKV_BENCH_AVX2=1 limits the kernels and oneDNN to AVX2.
int main(int argc, char** argv) {
  if (std::getenv("RESTKV_BENCH_AVX2") != nullptr) {
    hwy::SetSupportedTargetsForTest(HWY_AVX2);
    dnnl_set_max_cpu_isa(dnnl_cpu_isa_avx2);
  }
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
