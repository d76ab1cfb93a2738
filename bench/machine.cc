#include "machine.h"

#include <oneapi/dnnl/dnnl.h>

#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

#include "base/threads.h"

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

double read_bandwidth() {
  constexpr size_t kCount = 512UL << 17;  // 8-byte words
  constexpr size_t kParts = 64;
  const std::vector<uint64_t> buffer(kCount, 1);
  std::vector<uint64_t> sums(kParts);
  volatile uint64_t total = 0;  // or the compiler would drop the reading
  const double t = best_of(5, [&] {
    parallel_for(kParts, [&](size_t part, size_t) {
      uint64_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
      const uint64_t* p = buffer.data() + part * (kCount / kParts);
      for (size_t i = 0; i < kCount / kParts; i += 4) {
        s0 += p[i], s1 += p[i + 1], s2 += p[i + 2], s3 += p[i + 3];
      }
      sums[part] = s0 + s1 + s2 + s3;
    });
    total = std::accumulate(sums.begin(), sums.end(), uint64_t{0});
  });
  return static_cast<double>(kCount * 8) / t;
}

}  // namespace restkv::bench
