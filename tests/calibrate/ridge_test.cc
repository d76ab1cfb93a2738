// Ridge regression from sums over blocks, against the normal equations of all rows at once.

#include "calibrate/ridge.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/bytes.h"
#include "base/threads.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/simd.h"

namespace restkv {
namespace {

struct Rows {
  size_t count, features, targets;
  std::vector<float> x, y;

  [[nodiscard]] Matrix<const float> features_of(size_t begin, size_t rows) const {
    return Matrix<const float>(x.data(), count, features).slice(begin, rows);
  }
  [[nodiscard]] Matrix<const float> targets_of(size_t begin, size_t rows) const {
    return Matrix<const float>(y.data(), count, targets).slice(begin, rows);
  }
};

/// Features with different means, scales and a common part, and targets that they explain in part.
Rows random_rows(size_t count, size_t features, size_t targets, uint32_t seed) {
  Rows rows{count, features, targets, {}, {}};
  std::mt19937 rng(seed);
  std::normal_distribution<float> normal;
  for (size_t i = 0; i < count; ++i) {
    const float common = normal(rng);
    for (size_t c = 0; c < features; ++c) {
      rows.x.push_back(static_cast<float>(c) +
                       (normal(rng) + common) * (0.1F + static_cast<float>(c % 5)));
    }
    const float* x = &rows.x[i * features];
    for (size_t t = 0; t < targets; ++t) {
      rows.y.push_back(-5.0F + x[t % features] - 0.3F * x[(t + 3) % features] + normal(rng));
    }
  }
  return rows;
}

/// Solves (X'X + alpha I) w = X'y of deviations from the means by elimination, and R^2.
RidgeSums::Fit reference(const Rows& rows, double alpha) {
  const size_t n = rows.features;
  RidgeSums::Fit fit;
  const auto mean = [&](const std::vector<float>& of, size_t columns, size_t c) {
    double sum = 0;
    for (size_t i = 0; i < rows.count; ++i) sum += double{of[i * columns + c]};
    return sum / double(rows.count);
  };
  std::vector<double> means(n);
  for (size_t c = 0; c < n; ++c) means[c] = mean(rows.x, n, c);
  for (size_t t = 0; t < rows.targets; ++t) {
    const double mean_y = mean(rows.y, rows.targets, t);
    std::vector<std::vector<double>> a(n, std::vector<double>(n + 1, 0.0));
    for (size_t i = 0; i < rows.count; ++i) {
      for (size_t r = 0; r < n; ++r) {
        const double x = double{rows.x[i * n + r]} - means[r];
        for (size_t c = 0; c < n; ++c) a[r][c] += x * (double{rows.x[i * n + c]} - means[c]);
        a[r][n] += x * (double{rows.y[i * rows.targets + t]} - mean_y);
      }
    }
    for (size_t r = 0; r < n; ++r) a[r][r] += alpha;
    for (size_t r = 0; r < n; ++r) {
      for (size_t below = 0; below < n; ++below) {
        if (below == r) continue;
        const double factor = a[below][r] / a[r][r];
        for (size_t c = r; c <= n; ++c) a[below][c] -= factor * a[r][c];
      }
    }
    double bias = mean_y;
    for (size_t c = 0; c < n; ++c) {
      fit.weights.push_back(a[c][n] / a[c][c]);
      bias -= fit.weights.back() * means[c];
    }
    fit.bias.push_back(bias);
    double residuals = 0;
    double total = 0;
    for (size_t i = 0; i < rows.count; ++i) {
      const double y{rows.y[i * rows.targets + t]};
      double predicted = bias;
      for (size_t c = 0; c < n; ++c) {
        predicted += fit.weights[t * n + c] * double{rows.x[i * n + c]};
      }
      residuals += (y - predicted) * (y - predicted);
      total += (y - mean_y) * (y - mean_y);
    }
    fit.r2.push_back(1.0 - residuals / total);
  }
  return fit;
}

void expect_near(const std::vector<double>& actual, const std::vector<double>& expected) {
  ASSERT_EQ(actual.size(), expected.size());
  double largest = 0;
  for (const double x : expected) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < actual.size(); ++i) ASSERT_NEAR(actual[i], expected[i], 1e-9 * largest);
}

class RidgeTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(RidgeTest, EqualsTheNormalEquations) {
  const testing::ForcedSimdTarget forced(GetParam());
  for (const auto& [count, features, targets] :
       {std::tuple<size_t, size_t, size_t>{700, 21, 2}, {130, 64, 3}, {40, 50, 1}, {3, 4, 2}}) {
    const Rows rows = random_rows(count, features, targets, 3);
    for (const double alpha : {1.0, 100.0}) {
      const RidgeSums::Fit expected = reference(rows, alpha);
      for (const size_t block : {count, size_t{1}, size_t{129}}) {
        RidgeSums sums(features, targets);
        for (size_t begin = 0; begin < count; begin += block) {
          const size_t some = std::min(block, count - begin);
          sums.add(rows.features_of(begin, some), rows.targets_of(begin, some));
        }
        EXPECT_EQ(sums.count(), count);
        const RidgeSums::Fit fit = sums.solve(alpha);
        expect_near(fit.weights, expected.weights);
        expect_near(fit.bias, expected.bias);
        expect_near(fit.r2, expected.r2);
      }
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Simd, RidgeTest, ::testing::ValuesIn(testing::simd_targets()),
                         [](const auto& test) { return testing::simd_target_name(test.param); });

TEST(Ridge, LargeMeansCostNoDigits) {
  Rows rows = random_rows(400, 12, 1, 9);
  for (float& x : rows.x) x = std::round(x * 64) / 64;
  const RidgeSums::Fit rounded = reference(rows, 1.0);
  for (float& x : rows.x) x += 4096;
  RidgeSums sums(12, 1);
  sums.add(rows.features_of(0, 400), rows.targets_of(0, 400));
  expect_near(sums.solve(1.0).weights, rounded.weights);
}

TEST(Ridge, ConstantsHaveNoWeight) {
  Rows rows = random_rows(200, 3, 2, 1);
  for (size_t i = 0; i < 200; ++i) {
    rows.x[i * 3 + 1] = 7;
    rows.y[i * 2 + 1] = -2;
  }
  RidgeSums sums(3, 2);
  sums.add(rows.features_of(0, 200), rows.targets_of(0, 200));
  const RidgeSums::Fit fit = sums.solve(1.0);
  EXPECT_EQ(fit.weights[1], 0.0);
  for (size_t c = 3; c < 6; ++c) EXPECT_EQ(fit.weights[c], 0.0);
  EXPECT_EQ(fit.bias[1], -2.0);
  EXPECT_EQ(fit.r2[1], 0.0);
}

TEST(Ridge, DoesNotDependOnThreads) {
  const int threads = num_threads();
  const Rows rows = random_rows(300, 150, 2, 4);
  std::vector<std::vector<double>> results;
  for (const int count : {1, 3}) {
    set_num_threads(count);
    RidgeSums sums(150, 2);
    sums.add(rows.features_of(0, 300), rows.targets_of(0, 300));
    results.push_back(sums.solve(1.0).weights);
  }
  set_num_threads(threads);
  EXPECT_EQ(results[0], results[1]);
}

TEST(Ridge, GoesOnFromSavedSums) {
  const Rows rows = random_rows(300, 10, 2, 5);
  RidgeSums whole(10, 2);
  whole.add(rows.features_of(0, 170), rows.targets_of(0, 170));
  std::string bytes;
  ByteWriter out([&](std::string_view part) { bytes += part; });
  whole.save(out);
  RidgeSums rest(10, 2);
  ByteReader in("sums", bytes);
  rest.load(in);
  EXPECT_TRUE(in.at_end());
  for (RidgeSums* sums : {&whole, &rest}) {
    sums->add(rows.features_of(170, 130), rows.targets_of(170, 130));
  }
  EXPECT_EQ(whole.solve(1.0).weights, rest.solve(1.0).weights);
  EXPECT_EQ(whole.solve(1.0).bias, rest.solve(1.0).bias);
  RidgeSums other(9, 2);
  ByteReader again("sums", bytes);
  EXPECT_THAT(testing::refusal(ErrorCode::kInput, [&] { other.load(again); }),
              ::testing::HasSubstr("do not fit the model"));
}

}  // namespace
}  // namespace restkv
