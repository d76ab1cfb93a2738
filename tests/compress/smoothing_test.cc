#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <random>

#include "compress/top_positions.h"
#include "restkv/stages.h"
#include "support/simd.h"

namespace restkv {
namespace {

TEST(AdaptiveWindowTest, RoundsLikeThePublishedCode) {
  struct Row {
    float drift;
    int kernel;
    int shift;
  };
  // Base kernel 5, one step per 10 positions.
  const Row rows[] = {{0, 5, 1},    {1, 5, 0},    {-1, 5, 0},   {10, 5, 1},   {-10, 5, 0},
                      {19, 5, 1},   {-19, 5, -1}, {20, 5, 2},   {-20, 5, -1}, {25, 5, 2},
                      {-25, 5, -2}, {30, 7, 3},   {-30, 7, -2}, {99, 19, 9},  {-99, 19, -9}};
  for (const auto& [drift, kernel, shift] : rows) {
    const PoolingWindow window = adaptive_window(drift, 5, 10);
    EXPECT_EQ(window.kernel, kernel) << drift;
    EXPECT_EQ(window.shift, shift) << drift;
  }
}

TEST(SmoothTest, TreatsTheEdgesAsEachKindDoes) {
  const std::vector<float> raw = {3, 0, 0, 6, 9};
  std::vector<float> out(raw.size());
  smooth(raw, Pooling::kNone, {3, 0}, out);
  EXPECT_EQ(out, raw);
  smooth(raw, Pooling::kAverage, {3, 0}, out);
  EXPECT_EQ(out, (std::vector<float>{1, 1, 2, 5, 5}));
  smooth(raw, Pooling::kMax, {3, 0}, out);
  EXPECT_EQ(out, (std::vector<float>{3, 3, 6, 9, 9}));
  smooth(raw, Pooling::kAverage, {3, 2}, out);
  EXPECT_EQ(out, (std::vector<float>{2, 5, 5, 3, 0}));
  smooth(raw, Pooling::kMax, {3, -1}, out);
  EXPECT_EQ(out, (std::vector<float>{3, 3, 3, 6, 9}));
  smooth(raw, Pooling::kAdaptive, {3, 0}, out);
  EXPECT_EQ(out, (std::vector<float>{2, 1, 2, 5, 8}));
  smooth(raw, Pooling::kAdaptive, {3, 2}, out);
  EXPECT_EQ(out, (std::vector<float>{2, 5, 8, 9, 9}));
  smooth(raw, Pooling::kAdaptive, {3, -2}, out);
  EXPECT_EQ(out, (std::vector<float>{3, 3, 2, 1, 2}));
}

TEST(SmoothTest, WindowsWiderThanTheRow) {
  const std::vector<float> raw = {1, 2};
  std::vector<float> out(2);
  smooth(raw, Pooling::kAdaptive, {7, 0}, out);
  EXPECT_FLOAT_EQ(out[0], (4 * 1 + 3 * 2) / 7.0F);
  smooth(raw, Pooling::kAdaptive, {1, -50}, out);
  EXPECT_EQ(out, (std::vector<float>{1, 1}));
  smooth(raw, Pooling::kAverage, {7, 0}, out);
  EXPECT_FLOAT_EQ(out[0], 3 / 7.0F);
}

TEST(SmoothTest, TwoScalesKeepAPeakAndTheNeighbourhoodOfAGroup) {
  std::vector<float> raw(100, 0.0F);
  raw[10] = 21;                      // alone: 10.5, 5.25 beside it, 2 around
  raw[50] = raw[52] = raw[54] = 21;  // a group: 6 for all that see it whole
  std::vector<float> out(raw.size());
  smooth_two_scales(raw, Pooling::kAdaptive, {kNeighbourhood, 0}, 0, out);
  EXPECT_FLOAT_EQ(out[3], 0);
  EXPECT_FLOAT_EQ(out[4], 2);
  EXPECT_FLOAT_EQ(out[8], 2);
  EXPECT_FLOAT_EQ(out[9], 5.25F);
  EXPECT_FLOAT_EQ(out[10], 10.5F);
  EXPECT_FLOAT_EQ(out[11], 5.25F);
  EXPECT_FLOAT_EQ(out[12], 2);
  EXPECT_FLOAT_EQ(out[24], 2);
  EXPECT_FLOAT_EQ(out[25], 0);
  EXPECT_FLOAT_EQ(out[53], 10.5F);
  EXPECT_FLOAT_EQ(out[54], 10.5F);
  EXPECT_FLOAT_EQ(out[48], 6);
  EXPECT_FLOAT_EQ(out[64], 6);
  EXPECT_FLOAT_EQ(out[65], 4);
  // The shift of the adaptive window moves both scales.
  smooth_two_scales(raw, Pooling::kAdaptive, {kNeighbourhood, 2}, 0, out);
  EXPECT_FLOAT_EQ(out[1], 0);
  EXPECT_FLOAT_EQ(out[2], 2);
  EXPECT_FLOAT_EQ(out[7], 5.25F);
  EXPECT_FLOAT_EQ(out[8], 10.5F);
  EXPECT_FLOAT_EQ(out[10], 2);
  EXPECT_FLOAT_EQ(out[22], 2);
  EXPECT_FLOAT_EQ(out[23], 0);
  // A level neighbourhood counts for more than each of its positions; outside there is nothing.
  std::fill(raw.begin(), raw.end(), 1.0F);
  smooth_two_scales(raw, Pooling::kAverage, {kNeighbourhood, 0}, 0, out);
  EXPECT_FLOAT_EQ(out[50], 2);
  EXPECT_FLOAT_EQ(out[99], 2 * 15 / 21.0F);
}

TEST(SmoothTest, TheFirstTokenIsANeighbourOnlyAsFarAsItMayReach) {
  std::vector<float> raw(100, 0.0F);
  raw[0] = 2100;
  raw[1] = 21;
  std::vector<float> out(raw.size());
  for (const Pooling pooling : {Pooling::kAdaptive, Pooling::kAverage}) {
    smooth_two_scales(raw, pooling, {kNeighbourhood, 0}, 0, out);
    EXPECT_FLOAT_EQ(out[0], pooling == Pooling::kAdaptive ? 2 * (15 * 2100 + 21) / 21.0F : 2100);
    EXPECT_FLOAT_EQ(out[1], 10.5F);
    EXPECT_FLOAT_EQ(out[2], 5.25F);
    EXPECT_FLOAT_EQ(out[3], 2);
    EXPECT_FLOAT_EQ(out[15], 2);
    EXPECT_FLOAT_EQ(out[16], 0);
  }
  smooth_two_scales(raw, Pooling::kAverage, {kNeighbourhood, 0}, 2, out);
  EXPECT_FLOAT_EQ(out[0], 2100);
  EXPECT_FLOAT_EQ(out[1], (2100 + 2 * 21) / 4.0F);
  EXPECT_FLOAT_EQ(out[2], 2 * 2121 / 21.0F);
  EXPECT_FLOAT_EQ(out[3], 2);
  // Beyond the edge, the adaptive window sees the first token again and again.
  smooth_two_scales(raw, Pooling::kAdaptive, {kNeighbourhood, 0}, 14, out);
  EXPECT_FLOAT_EQ(out[1], 2 * (14 * 2100 + 21) / 21.0F);
  EXPECT_FLOAT_EQ(out[14], 2 * (2100 + 21) / 21.0F);
  EXPECT_FLOAT_EQ(out[15], 2);
  EXPECT_FLOAT_EQ(out[16], 0);

  const std::span<const float> first(raw.data(), 1);
  smooth_two_scales(first, Pooling::kAverage, {kNeighbourhood, 0}, 14, std::span(out).first(1));
  EXPECT_FLOAT_EQ(out[0], 2100);
  smooth_two_scales({}, Pooling::kAdaptive, {kNeighbourhood, 0}, 14, {});

  EXPECT_EQ(sink_reach(64, 32), 4U);
  EXPECT_EQ(sink_reach(128, 32), 12U);
  EXPECT_EQ(sink_reach(1024, 32), 14U);
  EXPECT_EQ(sink_reach(16, 32), 0U);
}

/// By sorting, as the words say it.
std::vector<int32_t> sorted_top(const std::vector<float>& values, size_t count) {
  std::vector<int32_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int32_t a, int32_t b) {
    return values[static_cast<size_t>(a)] > values[static_cast<size_t>(b)];
  });
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

TEST(TopPositionsTest, AgreesWithASort) {
  std::mt19937 engine(3);
  std::vector<std::vector<float>> rows;
  for (const size_t size : {1, 2, 17, 100, 4096, 9000, 20001}) {
    std::normal_distribution<float> normal;
    auto& spread = rows.emplace_back(size);
    for (float& x : spread) x = normal(engine);
    auto& steep = rows.emplace_back(size);
    for (float& x : steep) x = std::exp(8 * normal(engine));
    auto& few_values = rows.emplace_back(size);
    for (float& x : few_values) x = static_cast<float>(engine() % 3);
    rows.emplace_back(size, 0.0F);
    auto& mostly_zero = rows.emplace_back(size, 0.0F);
    for (size_t i = 0; i < size; i += 7) mostly_zero[i] = 1.0F / static_cast<float>(i + 1);
    auto& rising = rows.emplace_back(size);
    std::iota(rising.begin(), rising.end(), -50.0F);
    // A regular sample sees only the small or only the large values.
    auto& periodic = rows.emplace_back(size);
    for (size_t i = 0; i < size; ++i) periodic[i] = i % 16 < 2 ? 5.0F : 1.0F;
    auto& hidden = rows.emplace_back(size);
    for (size_t i = 0; i < size; ++i) hidden[i] = i % 16 < 2 ? 1.0F : 5.0F;
  }
  for (const int64_t target : testing::simd_targets()) {
    const testing::ForcedSimdTarget forced(target);
    TopPositions top;
    for (size_t r = 0; r < rows.size(); ++r) {
      const auto& row = rows[r];
      for (const size_t count :
           {size_t{0}, size_t{1}, row.size() / 10, row.size() / 2, row.size() - 1, row.size()}) {
        const auto found = top.find(row, count);
        const std::vector<int32_t> expected = sorted_top(row, count);
        ASSERT_EQ(std::vector<int32_t>(found.begin(), found.end()), expected)
            << testing::simd_target_name(target) << ", row " << r << " of " << row.size()
            << " values, top " << count;
        ASSERT_EQ(top.sum(row, count),
                  std::accumulate(expected.begin(), expected.end(), int64_t{0}))
            << testing::simd_target_name(target) << ", row " << r << " of " << row.size()
            << " values, top " << count;
      }
    }
  }
}

}  // namespace
}  // namespace restkv
