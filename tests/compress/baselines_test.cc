// The methods beside ReST-KV and SnapKV against slow definitions, and what they owe their callers.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "base/threads.h"
#include "compress/ladder.h"
#include "compress/reference.h"
#include "restkv/compress.h"
#include "restkv/error.h"
#include "support/own_options.h"
#include "support/refusal.h"

namespace restkv {
namespace {

using ::testing::HasSubstr;
using testing::RandomLayer;

constexpr size_t kHeads = 4;
constexpr size_t kGroups = 2;
constexpr size_t kLength = 300;
constexpr size_t kDim = 32;

/// A random layer with everything that a method may ask for.
struct Observed {
  Observed() : layer(kHeads, kGroups, kLength, kDim, kLength, 64, 7) {
    sums.resize(kHeads * kLength);
    for (size_t i = 0; i < sums.size(); ++i) sums[i] = static_cast<float>((i * 7919) % 1009);
    statistics.add(layer.view.queries);
    for (size_t i = 0; i < kDim / 2; ++i) {
      rotation.cosine.push_back(std::cos(static_cast<float>(i)) / 2);
      rotation.sine.push_back(std::sin(static_cast<float>(i)) / 2);
    }
    layer.view.attention_sums = {sums.data(), kHeads, kLength};
    layer.view.query_statistics = &statistics;
    layer.view.future_rotation = &rotation;
    layer.view.layers = 8;
    layer.view.layer = 3;
  }
  RandomLayer layer;
  std::vector<float> sums;
  QueryStatistics statistics{kHeads, kDim};
  MeanRotation rotation;
};

const std::vector<std::string_view> kBaselines = {"h2o",
                                                  "observed-attention",
                                                  "tova",
                                                  "lacache",
                                                  "expected-attention",
                                                  "keydiff",
                                                  "lagkv",
                                                  "cur",
                                                  "cake",
                                                  "chunkkv",
                                                  "finch",
                                                  "dropkv",
                                                  "rkv",
                                                  "leverage"};

CompressionOptions options_for(std::string_view method, int budget) {
  CompressionOptions options = default_options(method);
  options.budget = budget;
  testing::set_if_own(options, "lag", 32);
  return options;
}

TEST(BaselinesTest, KeepTheBudgetWhateverTheNumberOfThreads) {
  const Observed observed;
  const int threads = num_threads();
  for (const std::string_view method : kBaselines) {
    for (const bool per_query_head : {false, true}) {
      CompressionOptions options = options_for(method, 100);
      options.per_query_head = per_query_head;
      set_num_threads(1);
      const Selection expected = select_tokens(observed.layer.view, options);
      set_num_threads(3);
      EXPECT_EQ(select_tokens(observed.layer.view, options).keep, expected.keep) << method;
      ASSERT_EQ(expected.keep.size(), per_query_head ? kHeads : kGroups) << method;
      for (const auto& keep : expected.keep) {
        EXPECT_TRUE(std::is_sorted(keep.begin(), keep.end())) << method;
        EXPECT_EQ(std::adjacent_find(keep.begin(), keep.end()), keep.end()) << method;
        EXPECT_LE(keep.size(), 100U) << method;
        EXPECT_GE(keep.size(), method == "lacache" ? 90U : 100U) << method;
      }
    }
  }
  set_num_threads(threads);
}

TEST(BaselinesTest, SayWhatIsMissing) {
  const RandomLayer layer(kHeads, kGroups, kLength, kDim, 8, 64, 7);
  const auto message = [&](const CompressionOptions& options) {
    return testing::refusal_if_any([&] { select_tokens(layer.view, options); });
  };
  EXPECT_THAT(message(options_for("h2o", 100)), HasSubstr("attention_sums"));
  EXPECT_THAT(message(options_for("expected-attention", 100)), HasSubstr("query_statistics"));
  CompressionOptions options = options_for("h2o", 100);
  options.own["acausal"] = true;
  EXPECT_THAT(message(options), HasSubstr("too few"));
  options = options_for("lacache", 8);
  EXPECT_THAT(message(options), HasSubstr("span"));  // a model of one layer has no ladder
  options = options_for("keydiff", 100);
  options.block_size = -1;
  EXPECT_THAT(message(options), HasSubstr("block_size is -1"));
  options.block_size = 16;
  options.allocation = "ada";
  EXPECT_THAT(message(options), HasSubstr("must be uniform"));
}

TEST(BaselinesTest, TovaIsTheMeanAttentionOfTheLastQuery) {
  const Observed observed;
  const LayerObservation& layer = observed.layer.view;
  std::vector<double> expected(kLength, 0.0);
  for (size_t h = 0; h < kHeads; ++h) {
    std::vector<double> weights(kLength);
    double sum = 0.0;
    for (size_t j = 0; j < kLength; ++j) {
      double z = 0.0;
      for (size_t c = 0; c < kDim; ++c) {
        z += double{layer.queries.row(h, kLength - 1)[c]} * layer.keys.row(h / 2, j)[c];
      }
      weights[j] = std::exp(z / std::sqrt(double(kDim)));
      sum += weights[j];
    }
    for (size_t j = 0; j < kLength; ++j) expected[j] += weights[j] / sum / kHeads;
  }
  SelectionTrace trace;
  CompressionOptions options = options_for("tova", 100);
  select_tokens(layer, options, &trace);
  for (size_t j = 0; j < kLength; ++j) {
    EXPECT_NEAR(trace.scores.at(1).at(j), expected[j], 1e-5 * expected[j] + 1e-9);
  }
  options.window = 5;
  const auto keep = select_tokens(layer, options).keep.at(0);
  EXPECT_EQ(std::vector<int32_t>(keep.end() - 5, keep.end()),
            (std::vector<int32_t>{295, 296, 297, 298, 299}));
}

TEST(BaselinesTest, ExpectedAttentionIsTheMeanOverTheGaussian) {
  const Observed observed;
  const LayerObservation& layer = observed.layer.view;
  const CompressionOptions options = options_for("expected-attention", 100);
  const auto sinks = static_cast<size_t>(options.sinks);
  // R as a matrix; halves are paired.
  std::vector<double> r(kDim * kDim, 0.0);
  for (size_t i = 0; i < kDim / 2; ++i) {
    const size_t b = i + kDim / 2;
    r[i * kDim + i] = r[b * kDim + b] = observed.rotation.cosine[i];
    r[i * kDim + b] = -observed.rotation.sine[i];
    r[b * kDim + i] = observed.rotation.sine[i];
  }
  std::vector<double> expected(kLength, 0.0);
  for (size_t h = 0; h < 2; ++h) {  // the group of KV head 0
    std::vector<double> mean(kDim, 0.0), turned_key(kDim);
    for (size_t i = 0; i < kLength; ++i) {
      for (size_t c = 0; c < kDim; ++c) mean[c] += layer.queries.row(h, i)[c] / double(kLength);
    }
    std::vector<double> logits(kLength);
    double sum = 0.0;
    for (size_t j = sinks; j < kLength; ++j) {
      // q turned by R meets k as q meets R^T k; the logit's variance over the queries themselves.
      for (size_t c = 0; c < kDim; ++c) {
        turned_key[c] = 0.0;
        for (size_t a = 0; a < kDim; ++a) {
          turned_key[c] += r[a * kDim + c] * layer.keys.row(0, j)[a];
        }
      }
      double middle = 0.0;
      for (size_t c = 0; c < kDim; ++c) middle += mean[c] * turned_key[c];
      double variance = 0.0;
      for (size_t i = 0; i < kLength; ++i) {
        double z = 0.0;
        for (size_t c = 0; c < kDim; ++c) z += layer.queries.row(h, i)[c] * turned_key[c];
        variance += (z - middle) * (z - middle) / double(kLength);
      }
      logits[j] = std::exp(middle / std::sqrt(double(kDim)) + variance / (2.0 * kDim));
      sum += logits[j];
    }
    for (size_t j = sinks; j < kLength; ++j) expected[j] += logits[j] / sum / 2;
  }
  SelectionTrace trace;
  select_tokens(layer, options, &trace);
  for (size_t j = sinks; j < kLength; ++j) {
    double square = 0.0;
    for (size_t c = 0; c < kDim; ++c) square += std::pow(double{layer.values.row(0, j)[c]}, 2);
    EXPECT_NEAR(trace.scores[0][j], expected[j] * std::sqrt(square), 1e-4 * expected[j]);
  }
}

TEST(QueryStatisticsTest, DoNotDependOnBlocksAndSurviveLargeMeans) {
  RandomLayer layer(2, 1, 101, kDim, 101, 16, 3);
  for (float& x : layer.q) x += 100.0F;
  QueryStatistics whole(2, kDim), parts(2, kDim);
  whole.add(layer.view.queries);
  for (size_t first = 0; first < 101; first += 17) {
    parts.add(layer.view.queries.slice_rows(first, std::min<size_t>(17, 101 - first)));
  }
  EXPECT_EQ(parts.count(), 101U);
  for (size_t h = 0; h < 2; ++h) {
    for (size_t a = 0; a < kDim; ++a) {
      double mean_a = 0.0;
      for (size_t i = 0; i < 101; ++i) mean_a += layer.view.queries.row(h, i)[a] / 101.0;
      EXPECT_NEAR(whole.mean(h)[a], mean_a, 1e-4);
      for (size_t b = 0; b < kDim; ++b) {
        double mean_b = 0.0;
        for (size_t i = 0; i < 101; ++i) mean_b += layer.view.queries.row(h, i)[b] / 101.0;
        double expected = 0.0;
        for (size_t i = 0; i < 101; ++i) {
          expected += (layer.view.queries.row(h, i)[a] - mean_a) *
                      (layer.view.queries.row(h, i)[b] - mean_b) / 101.0;
        }
        EXPECT_NEAR(whole.covariance(h)[a * kDim + b], expected, 1e-4);
        EXPECT_NEAR(parts.covariance(h)[a * kDim + b], expected, 1e-4);
      }
    }
  }
  EXPECT_THROW(whole.add(layer.view.keys), Error);
}

TEST(LadderTest, GenerationNeverOutgrowsTheCache) {
  LadderPlanner planner({.layers = 6, .size = 64, .sinks = 4, .span = 3, .overlap = 0});
  std::vector<std::vector<int32_t>> caches(6);
  for (int32_t position = 0; position < 2000; ++position) {
    for (auto& cache : caches) cache.push_back(position);
    for (const LadderCut& cut : planner.compact(caches[0].size())) {
      for (size_t i = 0; i < 6; ++i) caches[i] = cut.apply(i, caches[i]);
    }
    for (const auto& cache : caches) {
      ASSERT_EQ(cache.size(), caches[0].size());
      ASSERT_LE(cache.size(), planner.size());
      ASSERT_TRUE(std::is_sorted(cache.begin(), cache.end()));
      ASSERT_EQ(cache.back(), position);
      for (int32_t sink = 0; sink < std::min(4, position); ++sink) ASSERT_EQ(cache[sink], sink);
    }
  }
  EXPECT_NE(caches[0], caches[1]);
}

TEST(LadderTest, RefusesShapesWithoutRungs) {
  EXPECT_THROW(LadderPlanner({.layers = 6, .size = 64, .sinks = 4, .span = 6}), Error);
  EXPECT_THROW(LadderPlanner({.layers = 6, .size = 64, .sinks = 4, .span = 0}), Error);
  EXPECT_THROW(LadderPlanner({.layers = 6, .size = 64, .sinks = 4, .span = 3, .overlap = 3}),
               Error);
  EXPECT_THROW(LadderPlanner({.layers = 6, .size = 10, .sinks = 4, .span = 3}), Error);
}

}  // namespace
}  // namespace restkv
