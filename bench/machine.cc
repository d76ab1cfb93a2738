#include "machine.h"

#include <oneapi/dnnl/dnnl.h>

#include <random>

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
  const double t = best_of(10, [&] {
    dnnl_sgemm('N', 'T', kSize, kSize, kSize, 1.0F, a.data(), kSize, b.data(), kSize, 0.0F,
               c.data(), kSize);
  });
  return 2.0 * kSize * kSize * kSize / t;
}

}  // namespace restkv::bench
