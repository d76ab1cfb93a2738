// A token meets every weight of the model: after the first call multiply_stored allocates nothing.
#include <ggml-cpu.h>
#include <gtest/gtest.h>

#include <vector>

#include "base/threads.h"
#include "linear/linear.h"
#include "support/allocations.h"

namespace restkv {
namespace {

TEST(LinearAllocations, ThereAreNoneAfterTheFirstCall) {
  ggml_cpu_init();
  constexpr size_t kRows = 200;
  constexpr size_t kCols = 256;
  const std::vector<float> x(8 * kCols, 0.5F);
  const int before = num_threads();
  for (const ggml_type type : {GGML_TYPE_Q4_1, GGML_TYPE_Q6_K, GGML_TYPE_F16, GGML_TYPE_F32}) {
    std::vector<char> bytes(kRows * ggml_row_size(type, kCols));
    const std::vector<float> source(kRows * kCols, 0.25F);
    ggml_quantize_chunk(type, source.data(), bytes.data(), 0, kRows, kCols, nullptr);
    const Linear linear(
        {{bytes.data(), type, kRows / 2, kCols}, {bytes.data(), type, kRows, kCols}});
    std::vector<float> y(8 * linear.rows());
    for (const size_t rows : {1, 8}) {
      const auto multiply = [&] {
        linear.multiply_stored({x.data(), rows, kCols}, {y.data(), rows, linear.rows()});
      };
      // One thread: with more it depends on luck when each of them has its first task.
      set_num_threads(1);
      multiply();
      const size_t once = testing::allocations();
      for (int i = 0; i < 10; ++i) multiply();
      EXPECT_EQ(testing::allocations(), once) << ggml_type_name(type) << ", " << rows << " rows";
    }
  }
  set_num_threads(before);
  EXPECT_GT(testing::allocations(), 0U) << "the count counts";
}

}  // namespace
}  // namespace restkv
