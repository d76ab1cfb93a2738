// A token attends in every layer: after the first call decode_attention allocates nothing.
#include <gtest/gtest.h>

#include <numeric>
#include <vector>

#include "base/threads.h"
#include "restkv/attention.h"
#include "restkv/kv_cache.h"
#include "support/allocations.h"

namespace restkv {
namespace {

TEST(DecodeAllocations, ThereAreNoneAfterTheFirstToken) {
  constexpr size_t kRows = 3000;
  constexpr size_t kDim = 64;
  const int before = num_threads();
  for (const int threads : {1, 3}) {
    set_num_threads(threads);
    for (const KvType type : {KvType::kF16, KvType::kF32, KvType::kQ8, KvType::kQ4}) {
      KvCache cache(1, 2, kDim, kDim, type);
      const std::vector<float> rows(2 * kRows * kDim, 0.5F);
      std::vector<int32_t> all(kRows);
      std::iota(all.begin(), all.end(), 0);
      const Heads<const float> view(rows.data(), 2, kRows, kDim);
      cache.gather(0, view, view, {{all, all}});
      std::vector<float> out(6 * kDim);
      const auto attend = [&] {
        decode_attention({rows.data(), 6, kDim}, cache.heads(0), {}, {out.data(), 6, kDim});
      };
      const size_t none = testing::allocations();
      attend();
      const size_t once = testing::allocations();
      if (threads == 1 && type == KvType::kF16) {
        EXPECT_GT(once, none) << "the count counts";
      }
      for (int i = 0; i < 10; ++i) attend();
      EXPECT_EQ(testing::allocations(), once) << kv_type_name(type) << ", threads " << threads;
    }
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace restkv
