// Prefill attention against the machine's f32 GEMM rate (oneDNN), and decode attention against its
// read bandwidth, measured in the same run.

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <random>
#include <vector>

#include "base/aligned.h"
#include "base/threads.h"
#include "restkv/attention.h"

namespace {

using restkv::AlignedVector;
using restkv::Heads;
using restkv::Matrix;

AlignedVector<float> random_floats(size_t count) {
  AlignedVector<float> v(count);
  std::minstd_rand rng(1);
  for (auto& x : v) x = static_cast<float>(rng() % 2001) / 1000.0F - 1.0F;
  return v;
}

double seconds(const std::function<void()>& f) {
  const auto start = std::chrono::steady_clock::now();
  f();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class F>
double best_of(int runs, F&& f) {
  double best = 1e30;
  for (int i = 0; i < runs; ++i) best = std::min(best, seconds(f));
  return best;
}

/// oneDNN's f32 GEMM rate on 1024^3 in FLOP/s.
double gemm_rate() {
  constexpr dnnl_dim_t kSize = 1024;
  const auto a = random_floats(kSize * kSize);
  const auto b = random_floats(kSize * kSize);
  AlignedVector<float> c(kSize * kSize);
  const double t = best_of(10, [&] {
    dnnl_sgemm('N', 'T', kSize, kSize, kSize, 1.0F, a.data(), kSize, b.data(), kSize, 0.0F,
               c.data(), kSize);
  });
  return 2.0 * kSize * kSize * kSize / t;
}

/// Bytes per second when all threads sum a 512 MB buffer.
double read_bandwidth() {
  constexpr size_t kCount = 512UL << 17;  // 8-byte words
  static const std::vector<uint64_t> buffer(kCount, 1);
  constexpr size_t kParts = 64;
  std::vector<uint64_t> sums(kParts);
  const double t = best_of(5, [&] {
    restkv::parallel_for(kParts, [&](size_t part, size_t) {
      uint64_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
      const uint64_t* p = buffer.data() + part * (kCount / kParts);
      for (size_t i = 0; i < kCount / kParts; i += 4) {
        s0 += p[i], s1 += p[i + 1], s2 += p[i + 2], s3 += p[i + 3];
      }
      sums[part] = s0 + s1 + s2 + s3;
    });
    benchmark::DoNotOptimize(sums);
  });
  return static_cast<double>(kCount * 8) / t;
}

void prefill(benchmark::State& state) {
  const auto heads = static_cast<size_t>(state.range(0));
  const auto kv_heads = static_cast<size_t>(state.range(1));
  const auto dim = static_cast<size_t>(state.range(2));
  const auto n = static_cast<size_t>(state.range(3));
  constexpr size_t kBlock = 512;
  const auto q = random_floats(heads * kBlock * dim);
  const auto k = random_floats(kv_heads * n * dim);
  const auto v = random_floats(kv_heads * n * dim);
  AlignedVector<float> out(heads * kBlock * dim);
  const double limit = gemm_rate();
  double best = 1e30;
  for (auto _ : state) {
    const double t = seconds([&] {
      for (size_t first = 0; first < n; first += kBlock) {
        restkv::prefill_attention({q.data(), heads, kBlock, dim}, {k.data(), kv_heads, n, dim},
                                  {v.data(), kv_heads, n, dim}, first, {},
                                  {out.data(), heads, kBlock, dim});
      }
    });
    best = std::min(best, t);
  }
  const double nn = static_cast<double>(n);
  const double flops = 2.0 * static_cast<double>(heads * dim) * nn * (nn + 1);
  state.counters["GFLOPS"] = flops / best * 1e-9;
  state.counters["sgemm"] = limit * 1e-9;
  state.counters["ratio"] = flops / best / limit;
}
BENCHMARK(prefill)
    ->Args({9, 3, 64, 8192})
    ->Args({32, 8, 128, 8192})
    ->Args({8, 4, 256, 4096})
    ->Iterations(3)
    ->Unit(benchmark::kMillisecond);

void decode(benchmark::State& state) {
  const auto heads = static_cast<size_t>(state.range(0));
  const auto kv_heads = static_cast<size_t>(state.range(1));
  const auto dim = static_cast<size_t>(state.range(2));
  const auto n = static_cast<size_t>(state.range(3));
  const auto q = random_floats(heads * dim);
  // 0x2c00..0x2fff are half-precision numbers between 1/16 and 1/8.
  std::vector<uint16_t> k(kv_heads * n * dim), v(k.size());
  std::minstd_rand rng(2);
  for (auto& x : k) x = static_cast<uint16_t>(0x2c00 + rng() % 1024);
  for (auto& x : v) x = static_cast<uint16_t>(0x2c00 + rng() % 1024);
  std::vector<restkv::CachedHead> cache;
  for (size_t h = 0; h < kv_heads; ++h) {
    cache.push_back({k.data() + h * n * dim, v.data() + h * n * dim, n});
  }
  AlignedVector<float> out(heads * dim);
  const double limit = read_bandwidth();
  double best = 1e30;
  for (auto _ : state) {
    best = std::min(best, seconds([&] {
             restkv::decode_attention({q.data(), heads, dim}, cache, {}, {out.data(), heads, dim});
           }));
  }
  const double bytes = 4.0 * static_cast<double>(kv_heads * n * dim);
  state.counters["GB/s"] = bytes / best * 1e-9;
  state.counters["read"] = limit * 1e-9;
  state.counters["ratio"] = bytes / best / limit;
}
BENCHMARK(decode)
    ->Args({9, 3, 64, 32768})
    ->Args({32, 8, 128, 32768})
    ->Args({32, 8, 128, 131072})
    ->Iterations(5)
    ->Unit(benchmark::kMillisecond);

}  // namespace

BENCHMARK_MAIN();
