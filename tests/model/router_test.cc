#include "model/router.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "base/threads.h"

namespace restkv {
namespace {

using Weights = std::vector<std::vector<double>>;  // [n][experts], 0 where an expert is not chosen

/// Sorts all experts of a row, in float64.
Weights slow_weights(Matrix<const float> logits, const ExpertsConfig& experts) {
  Weights all;
  for (size_t r = 0; r < logits.rows; ++r) {
    std::vector<size_t> order(logits.cols);
    std::iota(order.begin(), order.end(), 0UL);
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return logits.row(r)[a] > logits.row(r)[b]; });
    double sum = 0;
    for (size_t i = 0; i < logits.cols; ++i) {
      if (i < experts.used || !experts.normalised) sum += std::exp(double{logits.row(r)[order[i]]});
    }
    auto& weights = all.emplace_back(logits.cols, 0.0);
    for (size_t i = 0; i < experts.used; ++i) {
      weights[order[i]] = double{experts.scale} * std::exp(double{logits.row(r)[order[i]]}) / sum;
    }
  }
  return all;
}

/// What a routing says, which must name every row at most once for an expert, in order.
Weights weights_of(const Routing& routing, size_t rows, size_t experts) {
  Weights all(rows, std::vector<double>(experts));
  size_t count = 0;
  for (size_t e = 0; e < experts; ++e) {
    const auto chosen = routing.of(e);
    EXPECT_EQ(routing.of(0, e).size(), count);
    EXPECT_EQ(routing.of(0, e).data() + count, chosen.data());
    count += chosen.size();
    for (size_t i = 0; i < chosen.size(); ++i) {
      if (i > 0) {
        EXPECT_LT(chosen[i - 1].row, chosen[i].row);
      }
      all[chosen[i].row][e] = double{chosen[i].weight};
    }
  }
  return all;
}

std::vector<float> random_logits(size_t count, bool ties) {
  std::mt19937 random(5);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> logits(count);
  for (float& x : logits) x = ties ? std::round(normal(random)) : normal(random);
  return logits;
}

TEST(Router, ChoosesAndWeighsAsASlowOne) {
  const int threads = num_threads();
  Routing routing;  // whose memory is reused
  for (const size_t experts : {1UL, 2UL, 8UL, 128UL}) {
    for (const size_t used : {1UL, 2UL, 8UL}) {
      if (used > experts) continue;
      for (const bool ties : {false, true}) {
        for (const size_t rows : {1UL, 37UL}) {
          set_num_threads(static_cast<int>(1 + rows % 3));
          const std::vector<float> values = random_logits(rows * experts, ties);
          const Matrix<const float> logits(values.data(), rows, experts);
          for (const bool normalised : {false, true}) {
            const ExpertsConfig config{
                .count = experts, .used = used, .normalised = normalised, .scale = 1.5F};
            routing.choose(logits, config);
            const Weights expected = slow_weights(logits, config);
            const Weights weights = weights_of(routing, rows, experts);
            for (size_t r = 0; r < rows; ++r) {
              for (size_t e = 0; e < experts; ++e) {
                ASSERT_NEAR(weights[r][e], expected[r][e], 1e-5) << experts << " " << used;
                ASSERT_EQ(weights[r][e] > 0, expected[r][e] > 0) << experts << " " << used;
              }
            }
          }
        }
      }
    }
  }
  set_num_threads(threads);
}

TEST(Router, LargeLogitsOverflowNothing) {
  const std::vector<float> values{3e38F, -3e38F, 1e30F, 3e38F};
  Routing routing;
  for (const bool normalised : {false, true}) {
    routing.choose({values.data(), 1, 4}, {.count = 4, .used = 2, .normalised = normalised});
    EXPECT_EQ(weights_of(routing, 1, 4), (Weights{{0.5, 0, 0, 0.5}}));
  }
}

TEST(Router, RowsThatAreNotFiniteSpoilNoOther) {
  constexpr size_t kExperts = 6;
  std::vector<float> values = random_logits(3 * kExperts, false);
  const ExpertsConfig config{.count = kExperts, .used = 2, .normalised = true};
  Routing routing;
  routing.choose({values.data(), 3, kExperts}, config);
  const Weights before = weights_of(routing, 3, kExperts);
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
        -std::numeric_limits<float>::infinity()}) {
    values[kExperts + 4] = bad;
    routing.choose({values.data(), 3, kExperts}, config);
    const Weights weights = weights_of(routing, 3, kExperts);
    EXPECT_EQ(weights[0], before[0]);
    EXPECT_EQ(weights[2], before[2]);
    EXPECT_EQ(
        std::count_if(weights[1].begin(), weights[1].end(), [](double w) { return std::isnan(w); }),
        2);
  }
}

}  // namespace
}  // namespace restkv
