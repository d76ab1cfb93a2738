#include "bench/machine.h"

#include <oneapi/dnnl/dnnl.h>

#include <random>

#include "base/threads.h"

// A function of the OpenMP runtime under oneDNN; not every compiler has its header.
extern "C" void omp_set_num_threads(int threads);

namespace restkv::bench {

AlignedVector<float> random_floats(size_t count) {
  AlignedVector<float> v(count);
  std::minstd_rand rng(1);
  for (auto& x : v) x = static_cast<float>(rng() % 2001) / 1000.0F - 1.0F;
  return v;
}

double gemm_rate() {
  constexpr dnnl_dim_t kSize = 1024;
  const auto a = random_floats(kSize * kSize);
  const auto b = random_floats(kSize * kSize);
  AlignedVector<float> c(kSize * kSize);
  omp_set_num_threads(num_threads());
  const double t = best_of(10, [&] {
    dnnl_sgemm('N', 'T', kSize, kSize, kSize, 1.0F, a.data(), kSize, b.data(), kSize, 0.0F,
               c.data(), kSize);
  });
  return 2.0 * kSize * kSize * kSize / t;
}

Limits measure_limits() {
  return {.sgemm_flops_per_second = gemm_rate(), .read_bytes_per_second = read_bandwidth()};
}

Json to_json(const Limits& limits) {
  return {{"read_bytes_per_second", limits.read_bytes_per_second},
          {"sgemm_flops_per_second", limits.sgemm_flops_per_second}};
}

}  // namespace restkv::bench
