#include "kv/half.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "support/simd.h"

namespace restkv {
namespace {

class HalfTest : public ::testing::TestWithParam<int64_t> {
 protected:
  testing::ForcedSimdTarget forced_{GetParam()};
};

void expect_as_ggml(const std::vector<float>& numbers) {
  std::vector<uint16_t> bits(numbers.size());
  to_half(numbers.data(), numbers.size(), bits.data());
  size_t wrong = 0;
  for (size_t i = 0; i < numbers.size(); ++i) {
    const uint16_t expected = ggml_fp32_to_fp16(numbers[i]);
    // NaN has many patterns: any of them will do.
    const bool equal =
        std::isnan(numbers[i]) ? std::isnan(ggml_fp16_to_fp32(bits[i])) : bits[i] == expected;
    if (!equal && wrong++ < 3) {
      ADD_FAILURE() << numbers[i] << " became " << std::hex << bits[i] << ", expected " << expected;
    }
  }
  EXPECT_EQ(wrong, 0U) << "of " << numbers.size();
}

/// All halves, the floats half-way between neighbours, and the floats next to both.
TEST_P(HalfTest, RoundsToTheNearestEven) {
  std::vector<float> numbers;
  for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
    const float x = ggml_fp16_to_fp32(static_cast<uint16_t>(bits));
    const float next =
        bits + 1 < 0x7c00 ? ggml_fp16_to_fp32(static_cast<uint16_t>(bits + 1)) : 65536.0F;
    for (const float y : {x, (x + next) / 2}) {
      numbers.push_back(y);
      numbers.push_back(std::nextafter(y, 1e30F));
      numbers.push_back(std::nextafter(y, -1e30F));
    }
  }
  const size_t positive = numbers.size();
  for (size_t i = 0; i < positive; ++i) numbers.push_back(-numbers[i]);
  expect_as_ggml(numbers);
}

TEST_P(HalfTest, InfinityNanAndTinyNumbers) {
  using Limits = std::numeric_limits<float>;
  std::vector<float> numbers = {0.0F,
                                -0.0F,
                                65504.0F,
                                65519.99F,
                                65520.0F,
                                1e30F,
                                Limits::max(),
                                Limits::lowest(),
                                Limits::infinity(),
                                -Limits::infinity(),
                                Limits::quiet_NaN(),
                                -Limits::quiet_NaN(),
                                std::bit_cast<float>(0x7f800001U),
                                Limits::min(),
                                Limits::denorm_min(),
                                -Limits::denorm_min(),
                                0x1p-24F,
                                0x1p-25F,
                                0x1.000002p-25F,
                                -0x1.8p-24F};
  std::mt19937 rng(1);
  for (int i = 0; i < 200'000; ++i)
    numbers.push_back(std::bit_cast<float>(static_cast<uint32_t>(rng())));
  expect_as_ggml(numbers);
}

TEST_P(HalfTest, EveryHalfBackToAFloat) {
  std::vector<uint16_t> bits(0x10000);
  std::iota(bits.begin(), bits.end(), uint16_t{0});
  std::vector<float> floats(bits.size());
  from_half(bits.data(), bits.size(), floats.data());
  for (size_t i = 0; i < bits.size(); ++i) {
    const float expected = ggml_fp16_to_fp32(bits[i]);
    if (std::isnan(expected)) {
      EXPECT_TRUE(std::isnan(floats[i])) << i;
    } else {
      EXPECT_EQ(std::bit_cast<uint32_t>(floats[i]), std::bit_cast<uint32_t>(expected)) << i;
    }
  }
}

TEST_P(HalfTest, EveryCount) {
  for (size_t count = 0; count < 70; ++count) {
    std::vector<float> numbers(count);
    for (size_t i = 0; i < count; ++i) numbers[i] = 0.1F * static_cast<float>(i);
    std::vector<uint16_t> bits(count + 1, 0xabcd);
    to_half(numbers.data(), count, bits.data());
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(bits[i], ggml_fp32_to_fp16(numbers[i]));
    EXPECT_EQ(bits[count], 0xabcd) << "written beyond the end";
    std::vector<float> back(count + 1, -1.0F);
    from_half(bits.data(), count, back.data());
    for (size_t i = 0; i < count; ++i) EXPECT_EQ(back[i], ggml_fp16_to_fp32(bits[i]));
    EXPECT_EQ(back[count], -1.0F) << "written beyond the end";
  }
}

INSTANTIATE_TEST_SUITE_P(Simd, HalfTest, ::testing::ValuesIn(testing::simd_targets()),
                         [](const auto& test) { return testing::simd_target_name(test.param); });

}  // namespace
}  // namespace restkv
