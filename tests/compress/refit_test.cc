// Refitted rows: a slow definition, what least squares promise, and refusals. The authors' settings
// are compared in golden_refit.cc.

#include "compress/refit.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "compress/double_matrix.h"
#include "compress/reference.h"
#include "restkv/compress.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"
#include "restkv/stages.h"
#include "support/refusal.h"
#include "support/simd.h"

namespace restkv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::RandomLayer;
using testing::refusal;

constexpr size_t kLength = 120;
constexpr size_t kDim = 24;
constexpr size_t kWindow = 16;
constexpr size_t kGroup = 3;

CompressionOptions refitting(Refit refit, double ridge = 1e-3) {
  CompressionOptions options = default_options("snapkv");
  options.window = kWindow;
  options.budget = 40;
  options.refit = refit;
  options.refit_ridge = ridge;
  return options;
}

/// One KV head of a layer and the rows that a method keeps of it.
struct KeptHead {
  KeptHead(uint32_t seed, size_t budget, float sharpness = 3.0F)
      : layer(kGroup, 1, kLength, kDim, kWindow, 32, seed, sharpness) {
    CompressionOptions options = refitting(Refit::kNone);
    options.budget = static_cast<int>(budget);
    positions = select_tokens(layer.view, options).keep[0];
    for (const int32_t p : positions) {
      const auto row = static_cast<size_t>(p);
      keys.insert(keys.end(), layer.view.keys.row(0, row), layer.view.keys.row(0, row) + kDim);
      values.insert(values.end(), layer.view.values.row(0, row),
                    layer.view.values.row(0, row) + kDim);
    }
  }
  [[nodiscard]] KeptRows rows() const {
    return {.keys = {keys.data(), positions.size(), kDim},
            .values = {values.data(), positions.size(), kDim},
            .positions = positions,
            .bias = bias};
  }

  RandomLayer layer;
  std::vector<int32_t> positions;
  std::vector<float> keys, values, bias;
};

/// Weights of window row i of query head g over given rows, in float64.
std::vector<double> weights(const KeptHead& head, size_t g, size_t i, const KeptRows& rows,
                            double* sum = nullptr) {
  std::vector<double> result(rows.keys.rows, 0.0);
  const std::span<const float> sinks = head.layer.view.sink_logits;
  double total = sinks.empty() ? 0 : std::exp(double{sinks[g]});
  for (size_t j = 0; j < result.size(); ++j) {
    if (rows.positions[j] > static_cast<int32_t>(kLength - kWindow + i)) continue;
    double z = 0;
    const float* q = head.layer.view.queries.row(g, head.layer.view.queries.rows - kWindow + i);
    for (size_t c = 0; c < kDim; ++c) z += double{q[c]} * rows.keys.row(j)[c];
    z /= std::sqrt(double{kDim});
    if (!rows.bias.empty()) z += rows.bias[j];
    result[j] = std::exp(z);
    total += result[j];
  }
  for (double& w : result) w /= total;
  if (sum != nullptr) *sum = total;
  return result;
}

/// Sum over the window of the squared differences between the outputs of two sets of rows.
double squared_error(const KeptHead& head, const KeptRows& a, const KeptRows& b) {
  double error = 0;
  for (size_t g = 0; g < kGroup; ++g) {
    for (size_t i = 0; i < kWindow; ++i) {
      const auto wa = weights(head, g, i, a);
      const auto wb = weights(head, g, i, b);
      for (size_t c = 0; c < kDim; ++c) {
        double difference = 0;
        for (size_t j = 0; j < wa.size(); ++j) difference += wa[j] * a.values.row(j)[c];
        for (size_t j = 0; j < wb.size(); ++j) difference -= wb[j] * b.values.row(j)[c];
        error += difference * difference;
      }
    }
  }
  return error;
}

/// All rows of the head.
struct AllRows {
  explicit AllRows(const KeptHead& head) : positions(kLength) {
    std::iota(positions.begin(), positions.end(), 0);
    rows = {.keys = head.layer.view.keys.head(0),
            .values = head.layer.view.values.head(0),
            .positions = positions};
  }
  std::vector<int32_t> positions;
  KeptRows rows;
};

constexpr float kSinks[kGroup] = {2, 6, -1};

TEST(RefitTest, TargetsAreTheAttentionOfTheWindow) {
  KeptHead head(1, 40);
  head.layer.view.sink_logits = kSinks;
  const AllRows all(head);
  const RefitTargets targets = refit_targets(head.layer.view, refitting(Refit::kWindow));
  ASSERT_EQ(targets.count, kWindow);
  ASSERT_EQ(targets.query_heads, kGroup);
  EXPECT_EQ(targets.positions.front(), static_cast<int32_t>(kLength - kWindow));
  EXPECT_EQ(targets.positions.back(), static_cast<int32_t>(kLength - 1));
  for (size_t g = 0; g < kGroup; ++g) {
    for (size_t i = 0; i < kWindow; ++i) {
      double sum = 0;
      const auto w = weights(head, g, i, all.rows, &sum);
      EXPECT_NEAR(targets.lse[g * kWindow + i], std::log(sum), 1e-4);
      for (size_t c = 0; c < kDim; ++c) {
        double out = 0;
        for (size_t j = 0; j < kLength; ++j) out += w[j] * all.rows.values.row(j)[c];
        EXPECT_NEAR(targets.outputs[(g * kWindow + i) * kDim + c], out, 1e-4);
      }
    }
  }
}

std::vector<float> packed_values(const KeptHead& head) {
  const Matrix<const float> values = head.rows().values;
  std::vector<float> packed;
  for (size_t i = 0; i < values.rows; ++i) {
    packed.insert(packed.end(), values.row(i), values.row(i) + values.cols);
  }
  return packed;
}

// With more queries than rows, with fewer, with and without a ridge, with and without biases.
TEST(RefitTest, TheOutputErrorNeverRises) {
  size_t fitted = 0;
  for (uint32_t seed = 1; seed <= 12; ++seed) {
    for (const size_t budget : {18, 30, 47, 60, 100}) {
      for (const double ridge : {0.0, 1e-6, 1e-3, 1.0}) {
        SCOPED_TRACE(std::to_string(seed) + ", " + std::to_string(budget) + ", " +
                     std::to_string(ridge));
        KeptHead head(seed, budget, seed % 2 == 0 ? 1.0F : 4.0F);
        if (seed % 3 == 0) {
          for (size_t j = 0; j < budget; ++j) head.bias.push_back(0.1F * static_cast<float>(j % 5));
        }
        if (seed % 4 == 1) head.layer.view.sink_logits = kSinks;
        const AllRows all(head);
        const CompressionOptions options = refitting(Refit::kWindow, ridge);
        const RefitTargets targets = refit_targets(head.layer.view, options);
        const RefittedRows fit = refit_rows(targets, 0, kGroup, head.rows(), options);
        ASSERT_EQ(fit.bias.size(), budget);
        ASSERT_EQ(fit.values.size(), budget * kDim);
        KeptRows after = head.rows();
        after.values = {fit.values.data(), budget, kDim};
        after.bias = fit.bias;
        const double error_before = squared_error(head, head.rows(), all.rows);
        const double error = squared_error(head, after, all.rows);
        EXPECT_NEAR(fit.squared_error_before, error_before, 1e-4 * error_before);
        EXPECT_NEAR(fit.squared_error, error, 1e-4 * error_before);
        EXPECT_LE(error, error_before * 1.0001);
        for (const float b : fit.bias) EXPECT_LE(std::abs(b), 3.001F);
        // As many free values as equations: nothing is left of the error.
        if (ridge == 0.0 && budget >= kGroup * kWindow) {
          EXPECT_LE(error, 1e-6 * fit.squared_outputs);
        } else if (ridge <= 1e-3) {
          // With hardly a ridge, some would have values beyond half precision, and are left.
          const bool left = ridge < 1e-3 && std::ranges::equal(fit.values, packed_values(head));
          EXPECT_TRUE(left || error < 0.9 * error_before) << error;
          fitted += left ? 0 : 1;
        }
      }
    }
  }
  EXPECT_GT(fitted, 100U);
}

TEST(RefitTest, ALargeRidgeLeavesRowsAsTheyAre) {
  KeptHead head(5, 40);
  for (size_t j = 0; j < 40; ++j) head.bias.push_back(0.01F * static_cast<float>(j));
  const CompressionOptions options = refitting(Refit::kWindow, 1e9);
  const RefitTargets targets = refit_targets(head.layer.view, options);
  const std::vector<double> lse(targets.lse.begin(), targets.lse.end());
  const RefittedRows fit =
      fit_rows({.queries = {targets.queries.data(), kGroup * kWindow, kDim},
                .lse = lse,
                .outputs = {targets.outputs.data(), kGroup * kWindow, kDim}},
               {.keys = head.rows().keys, .values = head.rows().values, .bias = head.bias},
               {.steps = 0, .bias_ridge = 1e9, .value_ridge = 1e9});
  for (size_t j = 0; j < 40; ++j) EXPECT_NEAR(fit.bias[j], head.bias[j], 1e-5);
  for (size_t i = 0; i < head.values.size(); ++i) EXPECT_NEAR(fit.values[i], head.values[i], 1e-5);
}

// Values are exact where the outputs are those of some values: here, of other ones for all rows.
TEST(RefitTest, FindsTheValuesThatTheOutputsCameFrom) {
  const KeptHead head(7, 20);
  const size_t t = head.positions.size();
  const size_t r = kGroup * kWindow;
  std::vector<float> queries(r * kDim), outputs(r * kDim, 0.0F);
  std::vector<double> lse(r);
  std::mt19937 rng(3);
  std::normal_distribution<float> normal;
  for (float& x : queries) x = 3.0F * normal(rng);
  std::vector<float> wanted(t * kDim);
  for (float& x : wanted) x = normal(rng);
  for (size_t i = 0; i < r; ++i) {
    std::vector<double> e(t);
    double sum = 0;
    for (size_t j = 0; j < t; ++j) {
      double z = 0;
      for (size_t c = 0; c < kDim; ++c) {
        z += double{queries[i * kDim + c]} * head.keys[j * kDim + c];
      }
      e[j] = std::exp(z / std::sqrt(double{kDim}));
      sum += e[j];
    }
    lse[i] = std::log(sum);
    for (size_t c = 0; c < kDim; ++c) {
      double out = 0;
      for (size_t j = 0; j < t; ++j) out += e[j] / sum * wanted[j * kDim + c];
      outputs[i * kDim + c] = static_cast<float>(out);
    }
  }
  for (const bool near_rows : {true, false}) {
    const RefittedRows fit = fit_rows(
        {.queries = {queries.data(), r, kDim}, .lse = lse, .outputs = {outputs.data(), r, kDim}},
        {.keys = head.rows().keys, .values = head.rows().values}, {.near_rows = near_rows});
    for (const float b : fit.bias) EXPECT_NEAR(b, 0.0, 1e-3);
    for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(fit.values[i], wanted[i], 2e-2) << i;
  }
}

TEST(RefitTest, LeastSquaresSolveTheirEquations) {
  std::mt19937 rng(1);
  std::normal_distribution<double> normal;
  for (const auto& [m, n] : {std::pair<size_t, size_t>{30, 12}, {12, 30}, {17, 17}, {200, 3}}) {
    for (const int64_t target : testing::simd_targets()) {
      const testing::ForcedSimdTarget forced(target);
      DoubleMatrix a(m, n);
      DoubleMatrix b(m, 5);
      for (size_t i = 0; i < m; ++i) {
        for (size_t j = 0; j < n; ++j) a.row(i)[j] = normal(rng);
        for (size_t j = 0; j < 5; ++j) b.row(i)[j] = normal(rng);
      }
      for (const double ridge : {0.0, 0.5}) {
        const DoubleMatrix x = least_squares(a, smaller_gram(a), b, ridge);
        // A^T (A X - B) + ridge X = 0; the smallest of several solutions is a sum of rows of A,
        // which the same test with fewer equations than unknowns shows: A X = B.
        DoubleMatrix rest = product(a, x);
        for (size_t i = 0; i < m; ++i) {
          for (size_t j = 0; j < 5; ++j) rest.row(i)[j] -= b.row(i)[j];
        }
        const DoubleMatrix slope = product(transposed(a), rest);
        for (size_t i = 0; i < n; ++i) {
          for (size_t j = 0; j < 5; ++j) {
            EXPECT_NEAR(slope.row(i)[j] + ridge * x.row(i)[j], 0.0, 1e-9);
          }
        }
        if (ridge == 0.0 && m < n) {
          // X = A^T Y for some Y: nothing of X is orthogonal to all rows of A.
          const DoubleMatrix y = least_squares(transposed(a), smaller_gram(transposed(a)), x, 0.0);
          const DoubleMatrix again = product(transposed(a), y);
          for (size_t i = 0; i < n; ++i) {
            for (size_t j = 0; j < 5; ++j) EXPECT_NEAR(again.row(i)[j], x.row(i)[j], 1e-9);
          }
        }
      }
    }
  }
  DoubleMatrix diagonal(3, 3);
  for (size_t i = 0; i < 3; ++i) diagonal.row(i)[i] = static_cast<double>(i + 1);
  EXPECT_NEAR(largest_eigenvalue(diagonal), 3.0, 1e-9);
  EXPECT_EQ(largest_eigenvalue(DoubleMatrix(2, 2)), 0.0);
}

TEST(RefitTest, QueriesOfTheRepeatPassSeeAllRows) {
  const KeptHead head(2, 40);
  LayerObservation layer = head.layer.view;
  layer.repeat_queries = layer.queries.slice_rows(0, 5);
  const RefitTargets targets = refit_targets(layer, refitting(Refit::kRepeat));
  EXPECT_EQ(targets.count, 5U);
  EXPECT_TRUE(targets.positions.empty());
  layer.repeat_queries = {};
  EXPECT_EQ(refit_targets(layer, refitting(Refit::kRepeat)).count, 0U);
  EXPECT_EQ(repeat_chunk(refitting(Refit::kRepeat)), 512U);
  EXPECT_EQ(repeat_queries(refitting(Refit::kRepeat)), 256U);
  EXPECT_EQ(repeat_chunk(refitting(Refit::kWindow)), 0U);
  EXPECT_EQ(observed_queries(refitting(Refit::kWindow)), kWindow);
  CompressionOptions keydiff = default_options("keydiff");
  EXPECT_EQ(observed_queries(keydiff), 0U);
  keydiff.refit = Refit::kWindow;
  EXPECT_EQ(observed_queries(keydiff), 32U);
}

// A bias is what one more channel of the keys would give.
TEST(RefitTest, MethodsScoreRowsWithTheirBiases) {
  constexpr size_t kHeads = 2;
  constexpr size_t kQueryHeads = 4;
  const RandomLayer layer(kQueryHeads, kHeads, kLength, kDim, 32, 40, 9);
  const float scale = 1.0F / std::sqrt(static_cast<float>(kDim));
  std::mt19937 rng(4);
  std::normal_distribution<float> normal;
  std::vector<float> biases(kHeads * kLength);
  for (float& x : biases) x = normal(rng);
  std::vector<float> keys, queries;
  for (size_t h = 0; h < kHeads; ++h) {
    for (size_t j = 0; j < kLength; ++j) {
      keys.insert(keys.end(), layer.view.keys.row(h, j), layer.view.keys.row(h, j) + kDim);
      keys.push_back(biases[h * kLength + j]);
    }
  }
  for (size_t h = 0; h < kQueryHeads; ++h) {
    for (size_t i = 0; i < 32; ++i) {
      queries.insert(queries.end(), layer.view.queries.row(h, i),
                     layer.view.queries.row(h, i) + kDim);
      queries.push_back(1.0F / scale);
    }
  }
  LayerObservation biased = layer.view;
  biased.scale = scale;
  biased.bias = {biases.data(), kHeads, kLength};
  LayerObservation longer = biased;
  longer.bias = {};
  longer.keys = {keys.data(), kHeads, kLength, kDim + 1};
  longer.queries = {queries.data(), kQueryHeads, 32, kDim + 1};
  biased.repeat_queries = biased.queries;
  longer.repeat_queries = longer.queries;
  for (const char* name : {"restkv", "snapkv", "tova", "cake", "finch", "dropkv", "rkv",
                           "attention-matching:key_score=rms", "attention-matching:key_score=mean",
                           "attention-matching:key_score=max", "attention-matching:refit=window"}) {
    SCOPED_TRACE(name);
    CompressionOptions options = parse_compression(name).options;
    options.budget = 60;
    if (options.method == "rkv") options.own["mix_lambda"] = 1.0;  // attention alone
    const LayerScores a = score_tokens(biased, options);
    const LayerScores b = score_tokens(longer, options);
    biased.bias = {};
    const LayerScores without = score_tokens(biased, options);
    biased.bias = {biases.data(), kHeads, kLength};
    ASSERT_EQ(a.values.size(), b.values.size());
    double difference = 0;
    for (size_t i = 0; i < a.values.size(); ++i) {
      EXPECT_NEAR(a.values[i], b.values[i], 2e-4 * std::abs(b.values[i]) + 1e-7);
      difference += std::abs(a.values[i] - without.values[i]);
    }
    EXPECT_GT(difference, 1e-3);
  }
  // So do the targets of the next refit.
  const RefitTargets a = refit_targets(biased, refitting(Refit::kWindow));
  const RefitTargets b = refit_targets(longer, refitting(Refit::kWindow));
  for (size_t i = 0; i < a.lse.size(); ++i) EXPECT_NEAR(a.lse[i], b.lse[i], 1e-4);
  for (size_t i = 0; i < a.outputs.size(); ++i) EXPECT_NEAR(a.outputs[i], b.outputs[i], 1e-4);
}

TEST(RefitTest, RefusesByName) {
  const auto refused = [](auto change) {
    CompressionOptions options = refitting(Refit::kRepeat);
    change(options);
    return testing::refusal_if_any(ErrorCode::kInvalidArgument, [&] { validate(options); });
  };
  EXPECT_EQ(refused([](auto&) {}), "");
  EXPECT_THAT(refused([](auto& o) { o.refit_queries = 0; }), HasSubstr("refit_queries is 0"));
  EXPECT_THAT(refused([](auto& o) { o.refit_ridge = -1; }), HasSubstr("refit_ridge is -1"));
  EXPECT_THAT(refused([](auto& o) {
                o.method = "tova";
                o.window = 0;
                o.refit = Refit::kWindow;
              }),
              AllOf(HasSubstr("window is 0"), HasSubstr("repeat")));
  EXPECT_EQ(refused([](auto& o) {
              o.refit = Refit::kNone;
              o.refit_queries = 0;
            }),
            "");
  EXPECT_THAT(refused([](auto& o) {
                o = default_options("attention-matching");
                o.refit = Refit::kNone;
              }),
              HasSubstr("refit is none"));
  EXPECT_EQ(overridden_by(default_options("snapkv"), "refit_queries"), "refit");

  KeptHead head(3, 40);
  const CompressionOptions options = refitting(Refit::kWindow);
  const RefitTargets targets = refit_targets(head.layer.view, options);
  const auto wrong = [&](size_t first, const KeptRows& rows) {
    return refusal(ErrorCode::kInvalidArgument,
                   [&] { (void)refit_rows(targets, first, kGroup, rows, options); });
  };
  EXPECT_THAT(wrong(1, head.rows()), HasSubstr("3 query heads"));
  KeptRows rows = head.rows();
  rows.positions = rows.positions.subspan(1);
  EXPECT_THAT(wrong(0, rows), HasSubstr("39 positions"));
  std::ranges::reverse(head.positions);
  EXPECT_THAT(wrong(0, head.rows()), HasSubstr("must ascend"));

  LayerObservation layer = head.layer.view;
  layer.values.rows -= 1;
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument, [&] { (void)refit_targets(layer, options); }),
              HasSubstr("do not fit each other"));
  head.layer.v[5] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refusal(ErrorCode::kInput, [&] { (void)refit_targets(head.layer.view, options); }),
              HasSubstr("values"));
}

}  // namespace
}  // namespace restkv
