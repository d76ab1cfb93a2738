// y = x W^T with W of 2048 x 2048: ggml's dot products in the stored type against converting W to
// float32 and calling oneDNN (the conversion counts), for more and more rows of x. Prints from how
// many rows on converting is faster, which is what kDenseFromRows in linear/linear.h stands for.

#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <ggml-cpu.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "linear/linear.h"
#include "machine.h"
#include "restkv/aligned.h"

namespace {

using restkv::AlignedVector;
using restkv::bench::random_floats;
using restkv::bench::seconds;

constexpr size_t kSize = 2048;
constexpr ggml_type kTypes[] = {GGML_TYPE_F32,  GGML_TYPE_F16,  GGML_TYPE_Q8_0, GGML_TYPE_Q4_0,
                                GGML_TYPE_Q4_1, GGML_TYPE_Q4_K, GGML_TYPE_Q6_K};
constexpr int64_t kRows[] = {1, 2, 4, 8, 16, 32, 64, 128, 512};

/// oneDNN's rate on 1024^3, measured before anything else runs.
double g_gemm_rate = 0;
/// stored / dense time by type and rows of x.
std::map<ggml_type, std::map<int64_t, double>> g_ratios;

/// Random weights in a ggml type.
AlignedVector<char> quantized(ggml_type type) {
  const auto source = random_floats(kSize * kSize);
  AlignedVector<char> bytes(kSize * ggml_row_size(type, kSize));
  ggml_quantize_chunk(type, source.data(), bytes.data(), 0, kSize, kSize, nullptr);
  return bytes;
}

/// Both ways take turns, so that what else the machine does hits both; the best time of each
/// counts.
void linear(benchmark::State& state, ggml_type type) {
  const auto n = static_cast<size_t>(state.range(0));
  const auto bytes = quantized(type);
  const restkv::Linear weight({{bytes.data(), type, kSize, kSize}});
  const auto x = random_floats(n * kSize);
  AlignedVector<float> y(n * kSize);
  AlignedVector<float> storage(kSize * kSize);
  double stored = 1e30;
  double dense = 1e30;
  for (auto _ : state) {
    stored = std::min(stored, seconds([&] {
                        weight.multiply_stored({x.data(), n, kSize}, {y.data(), n, kSize});
                      }));
    dense = std::min(dense, seconds([&] {
                       restkv::multiply_dense({x.data(), n, kSize}, weight.densify(storage),
                                              {y.data(), n, kSize});
                     }));
  }
  const double flops = 2.0 * static_cast<double>(n) * kSize * kSize;
  state.counters["stored_ms"] = stored * 1e3;
  state.counters["dense_ms"] = dense * 1e3;
  state.counters["stored/dense"] = stored / dense;
  state.counters["stored/sgemm"] = flops / stored / g_gemm_rate;
  state.counters["dense/sgemm"] = flops / dense / g_gemm_rate;
  g_ratios[type][state.range(0)] = stored / dense;
}

/// Time in the stored type as a multiple of the time by way of float32; and the number of rows from
/// which on converting wins.
void print_table() {
  fmt::print("\nsgemm 1024^3: {:.0f} GFLOPS\nstored / dense time:\n{:>6}", g_gemm_rate * 1e-9,
             "rows");
  for (const int64_t n : kRows) fmt::print("{:>7}", n);
  fmt::print("  dense from\n");
  for (const auto& [type, ratios] : g_ratios) {
    fmt::print("{:>6}", ggml_type_name(type));
    int64_t from = 0;
    for (const auto& [n, ratio] : ratios) {
      fmt::print("{:>7.2f}", ratio);
      if (ratio <= 1) {
        from = 0;
      } else if (from == 0) {
        from = n;
      }
    }
    fmt::print("{:>12}\n", from > 0 ? fmt::format("{}", from) : "never");
  }
}

}  // namespace

int main(int argc, char** argv) {
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 1;
  ggml_cpu_init();
  g_gemm_rate = restkv::bench::gemm_rate();
  for (const ggml_type type : kTypes) {
    for (const int64_t n : kRows) {
      benchmark::RegisterBenchmark(fmt::format("linear/{}", ggml_type_name(type)).c_str(),
                                   [type](benchmark::State& state) { linear(state, type); })
          ->Arg(n)
          ->Iterations(n <= 16 ? 30 : 8)
          ->Unit(benchmark::kMillisecond);
    }
  }
  benchmark::RunSpecifiedBenchmarks();
  print_table();
}
