#include "doors/array_layer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "restkv/attention.h"
#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv::doors {
namespace {

using ::testing::HasSubstr;

constexpr size_t kQueryHeads = 4;
constexpr size_t kKvHeads = 2;
constexpr size_t kTokens = 700;  // more than a block of watched tokens
constexpr size_t kDim = 16;
constexpr size_t kWidth = 48;
constexpr int kBudget = 64;

std::vector<float> normal_values(size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

/// A layer whose queries and keys are rotated as a model would.
struct RandomArrays {
  std::vector<float> frequencies;
  std::vector<float> plain_queries = normal_values(kQueryHeads * kTokens * kDim, 1);
  std::vector<float> plain_keys = normal_values(kKvHeads * kTokens * kDim, 2);
  std::vector<float> values = normal_values(kKvHeads * kTokens * kDim, 3);
  std::vector<float> wo = normal_values(kWidth * kQueryHeads * kDim, 4);
  std::vector<float> queries = plain_queries, keys = plain_keys;
  ArrayLayer layer;

  explicit RandomArrays(double magnitude = 1, bool halves = true) {
    for (size_t i = 0; i < kDim / 2; ++i) {
      frequencies.push_back(std::pow(10000.0F, -static_cast<float>(2 * i) / kDim));
    }
    layer.rotation = {frequencies, magnitude, halves};
    rotate(queries, kQueryHeads);
    rotate(keys, kKvHeads);
    layer.queries = {queries.data(), kQueryHeads, kTokens, kDim};
    layer.keys = {keys.data(), kKvHeads, kTokens, kDim};
    layer.values = {values.data(), kKvHeads, kTokens, kDim};
    layer.wo = {wo.data(), kWidth, kQueryHeads * kDim};
    layer.layers = 8;  // some keep different tokens in different layers
    layer.layer = 3;
  }

  void rotate(std::vector<float>& rows, size_t heads) const {
    for (size_t p = 0; p < kTokens; ++p) {
      MeanRotation at;
      at.halves = layer.rotation.halves;
      for (const float frequency : frequencies) {
        const double angle = static_cast<double>(p) * static_cast<double>(frequency);
        at.cosine.push_back(static_cast<float>(layer.rotation.magnitude * std::cos(angle)));
        at.sine.push_back(static_cast<float>(layer.rotation.magnitude * std::sin(angle)));
      }
      for (size_t h = 0; h < heads; ++h) at.rotate(rows.data() + (h * kTokens + p) * kDim);
    }
  }
};

CompressionOptions options_for(std::string_view method) {
  CompressionOptions options = default_options(method);
  options.budget = kBudget;
  if (method == "lagkv") options.own["lag"] = 32;
  return options;
}

bool needs_a_model(const Method& method) {
  return watched_tokens(method.defaults) == WatchedTokens::kRepeat || method.needs_statistics;
}

TEST(ArrayLayerTest, EveryMethodThatNeedsNoModelSelectsFromArrays) {
  const RandomArrays arrays;
  size_t seen = 0;
  for (const Method& method : methods()) {
    if (needs_a_model(method) || method.name == "full") continue;
    const Selection kept = select_from_arrays(arrays.layer, options_for(method.name));
    ASSERT_EQ(kept.keep.size(), kKvHeads) << method.name;
    size_t sum = 0;
    for (const std::vector<int32_t>& head : kept.keep) {
      EXPECT_TRUE(std::ranges::is_sorted(head)) << method.name;
      sum += head.size();
    }
    // Chunks need not fit exactly.
    EXPECT_LE(sum, kKvHeads * kBudget) << method.name;
    EXPECT_GT(sum, kKvHeads * kBudget * 9 / 10) << method.name;
    ++seen;
  }
  EXPECT_GT(seen, 15U);
}

TEST(ArrayLayerTest, WindowMethodsSelectWhatTheLibrarySelects) {
  const RandomArrays arrays;
  for (const char* method : {"restkv", "snapkv", "cake"}) {
    const CompressionOptions options = options_for(method);
    const OutputFactor factor(arrays.layer.wo, kQueryHeads, kDim);
    LayerObservation layer;
    layer.queries = arrays.layer.queries;
    layer.keys = arrays.layer.keys;
    layer.values = arrays.layer.values;
    layer.output = &factor;
    const Selection expected = select_tokens(layer, options);
    EXPECT_EQ(select_from_arrays(arrays.layer, options).keep, expected.keep) << method;

    ArrayLayer last = arrays.layer;  // the window's queries are enough, and the factor for W_O
    last.queries = last.queries.slice_rows(kTokens - 40, 40);
    last.wo = {};
    last.factor = &factor;
    EXPECT_EQ(select_from_arrays(last, options).keep, expected.keep) << method;
  }
}

TEST(ArrayLayerTest, WhatAMethodNeedsIsEnough) {
  const RandomArrays arrays;
  for (const Method& method : methods()) {
    if (needs_a_model(method)) continue;
    const CompressionOptions options = options_for(method.name);
    const ArrayNeeds needs = array_needs(options, kTokens);
    ArrayLayer least = arrays.layer;
    if (needs.queries == 0) least.queries = {};
    if (needs.queries > 0) {
      least.queries = least.queries.slice_rows(kTokens - needs.queries, needs.queries);
    }
    if (!needs.wo && !needs.factor) least.wo = {};
    if (!needs.rotation) least.rotation = {};
    EXPECT_EQ(select_from_arrays(least, options).keep,
              select_from_arrays(arrays.layer, options).keep)
        << method.name;
  }
  EXPECT_EQ(array_needs(options_for("knorm"), kTokens).queries, 0U);
  EXPECT_EQ(array_needs(options_for("tova"), kTokens).queries, 1U);
  EXPECT_EQ(array_needs(options_for("h2o"), kTokens).queries, kTokens);
  EXPECT_TRUE(array_needs(options_for("restkv"), kTokens).factor);
  EXPECT_FALSE(array_needs(options_for("restkv"), 20).factor);  // all are kept
  testing::refusal(ErrorCode::kUnsupported, [] { array_needs(options_for("kvzip"), kTokens); });
}

TEST(ArrayLayerTest, AttentionSumsAreThoseOfAllQueries) {
  const RandomArrays arrays;
  const CompressionOptions options = options_for("observed-attention");
  std::vector<float> sums(kQueryHeads * kTokens, 0.0F);
  for (size_t h = 0; h < kQueryHeads; ++h) {
    for (size_t i = 0; i < kTokens; ++i) {
      std::vector<double> weights(i + 1);
      double sum = 0;
      for (size_t j = 0; j <= i; ++j) {
        double product = 0;
        for (size_t c = 0; c < kDim; ++c) {
          product += static_cast<double>(arrays.layer.queries.row(h, i)[c]) *
                     static_cast<double>(arrays.layer.keys.row(h / 2, j)[c]);
        }
        weights[j] = std::exp(product / std::sqrt(static_cast<double>(kDim)));
        sum += weights[j];
      }
      for (size_t j = 0; j <= i; ++j) {
        sums[h * kTokens + j] += static_cast<float>(weights[j] / sum);
      }
    }
  }
  LayerObservation layer;
  layer.queries = arrays.layer.queries;
  layer.keys = arrays.layer.keys;
  layer.values = arrays.layer.values;
  layer.attention_sums = {sums.data(), kQueryHeads, kTokens};
  EXPECT_EQ(select_from_arrays(arrays.layer, options).keep, select_tokens(layer, options).keep);
}

TEST(ArrayLayerTest, RotationsAreUndone) {
  for (const bool halves : {true, false}) {
    const RandomArrays arrays(1.25, halves);
    // Queries before their rotation, to which the library adds the mean of rotations to come.
    CompressionOptions options = options_for("expected-attention");
    QueryStatistics statistics(kQueryHeads, kDim);
    const auto sinks = static_cast<size_t>(options.sinks);
    statistics.add(Heads<const float>(arrays.plain_queries.data(), kQueryHeads, kTokens, kDim)
                       .slice_rows(sinks, kTokens - sinks));
    MeanRotation future;
    future.halves = halves;
    const size_t count = future_positions(options);
    for (const float frequency : arrays.frequencies) {
      double cosine = 0;
      double sine = 0;
      for (size_t p = kTokens; p < kTokens + count; ++p) {
        cosine += std::cos(static_cast<double>(p) * static_cast<double>(frequency));
        sine += std::sin(static_cast<double>(p) * static_cast<double>(frequency));
      }
      future.cosine.push_back(static_cast<float>(1.25 * cosine / static_cast<double>(count)));
      future.sine.push_back(static_cast<float>(1.25 * sine / static_cast<double>(count)));
    }
    LayerObservation layer;
    layer.queries = arrays.layer.queries;
    layer.keys = arrays.layer.keys;
    layer.values = arrays.layer.values;
    layer.query_statistics = &statistics;
    layer.future_rotation = &future;
    EXPECT_EQ(select_from_arrays(arrays.layer, options).keep, select_tokens(layer, options).keep);

    options = options_for("leverage");
    ArrayLayer given = arrays.layer;
    given.unrotated_keys = {arrays.plain_keys.data(), kKvHeads, kTokens, kDim};
    given.rotation = {};
    EXPECT_EQ(select_from_arrays(arrays.layer, options).keep,
              select_from_arrays(given, options).keep);
  }
}

TEST(ArrayLayerTest, WhatIsMissingIsNamed) {
  const RandomArrays arrays;
  const auto refused = [&](ErrorCode code, const char* method, const ArrayLayer& layer) {
    return testing::refusal(code, [&] { select_from_arrays(layer, options_for(method)); });
  };
  const ErrorCode argument = ErrorCode::kInvalidArgument;
  ArrayLayer layer = arrays.layer;
  layer.wo = {};
  EXPECT_THAT(refused(argument, "restkv", layer), HasSubstr("wo"));
  layer = arrays.layer;
  layer.queries = layer.queries.slice_rows(kTokens - 40, 40);
  EXPECT_THAT(refused(argument, "h2o", layer), HasSubstr("queries of all 700 tokens"));
  EXPECT_THAT(refused(argument, "expected-attention", layer), HasSubstr("all 700"));
  EXPECT_THAT(refused(argument, "compactor", layer), HasSubstr("all 700"));
  layer.queries = layer.queries.slice_rows(30, 10);
  EXPECT_THAT(refused(argument, "snapkv", layer), HasSubstr("too few"));
  layer = arrays.layer;
  layer.rotation = {};
  EXPECT_THAT(refused(argument, "expected-attention", layer), HasSubstr("frequencies"));
  EXPECT_THAT(refused(argument, "leverage", layer), HasSubstr("unrotated_keys"));
  EXPECT_THAT(refused(ErrorCode::kUnsupported, "kvzip", layer), HasSubstr("repeat"));
}

TEST(ArrayLayerTest, ShapesThatDoNotFitAreRefused) {
  const RandomArrays arrays;
  const auto refused = [&](const ArrayLayer& layer) {
    return testing::refusal(ErrorCode::kInvalidArgument,
                            [&] { select_from_arrays(layer, options_for("restkv")); });
  };
  ArrayLayer layer = arrays.layer;
  layer.keys = {};
  EXPECT_THAT(refused(layer), HasSubstr("keys are [0, 0, 0]"));
  layer = arrays.layer;
  layer.values = layer.values.slice_rows(0, 10);
  EXPECT_THAT(refused(layer), HasSubstr("values are [2, 10, 16]"));
  layer = arrays.layer;
  layer.queries = layer.queries.slice_heads(0, 3);
  EXPECT_THAT(refused(layer), HasSubstr("multiple"));
  layer = arrays.layer;
  layer.wo.cols = 10;
  EXPECT_THAT(refused(layer), HasSubstr("wo is [48, 10]"));
  layer = arrays.layer;
  layer.scale = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(refused(layer), HasSubstr("scale"));
  layer = arrays.layer;
  layer.layer = 8;
  EXPECT_THAT(refused(layer), HasSubstr("layer is 8 of 8"));
  layer = arrays.layer;
  layer.rotation.magnitude = 0;
  EXPECT_THAT(refused(layer), HasSubstr("magnitude 0"));
}

TEST(ArrayLayerTest, NaNIsRefusedAsInput) {
  RandomArrays arrays;
  arrays.keys[100 * kDim] = std::numeric_limits<float>::quiet_NaN();
  for (const char* method : {"restkv", "h2o", "keydiff", "expected-attention"}) {
    SCOPED_TRACE(method);
    testing::refusal(ErrorCode::kInput,
                     [&] { select_from_arrays(arrays.layer, options_for(method)); });
  }
}

TEST(ArrayLayerTest, OptionsThatChangeValuesAreRefused) {
  const RandomArrays arrays;
  CompressionOptions options = options_for("snapkv");
  options.merge = true;
  EXPECT_THAT(
      testing::refusal(ErrorCode::kUnsupported, [&] { select_from_arrays(arrays.layer, options); }),
      HasSubstr("merge"));
  options.merge = false;
  options.refit = Refit::kWindow;
  EXPECT_THAT(
      testing::refusal(ErrorCode::kUnsupported, [&] { select_from_arrays(arrays.layer, options); }),
      HasSubstr("refit"));
}

}  // namespace
}  // namespace restkv::doors
