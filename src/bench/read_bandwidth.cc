#include <cstdint>
#include <numeric>
#include <vector>

#include "base/threads.h"
#include "bench/machine.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "bench/read_bandwidth.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::bench::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// The sum of `count` words, read as four streams: a single one does not fill the memory queues.
uint64_t Sum(const uint64_t* HWY_RESTRICT words, size_t count) {
  const hn::CappedTag<uint64_t, 8> d;
  constexpr size_t kStreams = 4;
  constexpr size_t kVectors = 2;
  const size_t lanes = hn::Lanes(d);
  const size_t part = count / kStreams;
  hn::Vec<decltype(d)> sum[kStreams][kVectors];
  for (auto& stream : sum) {
    for (auto& s : stream) s = hn::Zero(d);
  }
  for (size_t i = 0; i < part; i += kVectors * lanes) {
    for (size_t k = 0; k < kStreams; ++k) {
      for (size_t j = 0; j < kVectors; ++j) {
        sum[k][j] = hn::Add(sum[k][j], hn::LoadU(d, words + k * part + i + j * lanes));
      }
    }
  }
  auto total = hn::Zero(d);
  for (const auto& stream : sum) {
    for (const auto& s : stream) total = hn::Add(total, s);
  }
  return hn::GetLane(hn::SumOfLanes(d, total));
}

}  // namespace restkv::bench::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv::bench {

HWY_EXPORT(Sum);

double read_bandwidth() {
  constexpr size_t kCount = 512UL << 17;  // 8-byte words
  constexpr size_t kParts = 64;
  static const std::vector<uint64_t> buffer(kCount, 1);
  std::vector<uint64_t> sums(kParts);
  volatile uint64_t total = 0;  // or the compiler would drop the reading
  const double t = best_of(5, [&] {
    parallel_for(kParts, [&](size_t part, size_t) {
      sums[part] =
          HWY_DYNAMIC_DISPATCH(Sum)(buffer.data() + part * (kCount / kParts), kCount / kParts);
    });
    total = std::accumulate(sums.begin(), sums.end(), uint64_t{0});
  });
  return static_cast<double>(kCount * 8) / t;
}

}  // namespace restkv::bench
#endif  // HWY_ONCE
