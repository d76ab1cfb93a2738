// Budgets that choose themselves: the error that they are measured by, and the choice.

#include "compress/output_error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "compress/reference.h"
#include "restkv/compress.h"
#include "restkv/error.h"
#include "restkv/stages.h"
#include "support/refusal.h"

namespace restkv {
namespace {

using ::testing::HasSubstr;
using testing::RandomLayer;
using testing::refusal;

constexpr size_t kWindow = 8;

/// Attention of the window's row r of a query head to the kept rows that it sees: sums in float64.
std::vector<double> slow_output(const LayerObservation& layer, size_t query_head, size_t kv_head,
                                size_t r, const std::vector<int32_t>& kept) {
  const size_t n = layer.keys.rows;
  const size_t position = n - kWindow + r;
  const float* query = layer.queries.row(query_head, layer.queries.rows - kWindow + r);
  const double scale =
      layer.scale != 0.0F ? layer.scale : 1.0 / std::sqrt(static_cast<double>(layer.keys.dim));
  std::vector<double> logits;
  double top = -1e300;
  for (const int32_t row : kept) {
    double z = 0;
    for (size_t c = 0; c < layer.keys.dim; ++c) {
      z += double{query[c]} * layer.keys.row(kv_head, static_cast<size_t>(row))[c];
    }
    z *= scale;
    if (layer.softcap > 0) z = layer.softcap * std::tanh(z / layer.softcap);
    if (static_cast<size_t>(row) > position) z = -1e300;
    logits.push_back(z);
    top = std::max(top, z);
  }
  std::vector<double> output(layer.values.dim);
  double sum = 0;
  if (!layer.sink_logits.empty()) {
    const double sink = layer.sink_logits[query_head];
    const double rescaled = std::max(top, sink);
    sum = std::exp(sink - rescaled);
    top = rescaled;
  }
  for (size_t i = 0; i < kept.size(); ++i) {
    const double weight = std::exp(logits[i] - top);
    sum += weight;
    for (size_t c = 0; c < output.size(); ++c) {
      output[c] += weight * layer.values.row(kv_head, static_cast<size_t>(kept[i]))[c];
    }
  }
  for (double& x : output) x /= sum;
  return output;
}

/// The error as it is defined. `parts`: as to `select_ragged`.
double slow_error(const std::vector<LayerObservation>& parts, const Selection& kept) {
  size_t kv_heads = 0;
  for (const LayerObservation& part : parts) kv_heads += part.keys.heads;
  const size_t repeat = kept.keep.size() / kv_heads;
  double change = 0;
  double all = 0;
  for (size_t r = 0; r < kWindow; ++r) {
    const size_t width = parts[0].output_weights.rows;
    std::vector<double> changed(width);
    std::vector<double> whole(width);
    size_t first_cache_head = 0;
    for (const LayerObservation& part : parts) {
      std::vector<int32_t> every(part.keys.rows);
      std::iota(every.begin(), every.end(), 0);
      const size_t group = part.queries.heads / part.keys.heads;
      for (size_t h = 0; h < part.queries.heads; ++h) {
        const size_t kv_head = h / group;
        const size_t cache_head = first_cache_head + (repeat > 1 ? h : kv_head);
        const std::vector<double> before = slow_output(part, h, kv_head, r, every);
        const std::vector<double> after = slow_output(part, h, kv_head, r, kept.keep[cache_head]);
        for (size_t o = 0; o < width; ++o) {
          for (size_t c = 0; c < before.size(); ++c) {
            const double w = part.output_weights.row(o)[h * before.size() + c];
            changed[o] += w * (after[c] - before[c]);
            whole[o] += w * before[c];
          }
        }
      }
      first_cache_head += part.keys.heads * repeat;
    }
    for (const double x : changed) change += x * x;
    for (const double x : whole) all += x * x;
  }
  return std::sqrt(change / all);
}

/// Some rows of n, and the window.
std::vector<int32_t> some_rows(size_t n, std::mt19937& rng) {
  std::vector<int32_t> rows;
  for (size_t i = 0; i < n; ++i) {
    if (i + kWindow >= n || rng() % 3 == 0) rows.push_back(static_cast<int32_t>(i));
  }
  return rows;
}

/// A layer with W_O.
struct Layer : RandomLayer {
  Layer(size_t query_heads, size_t kv_heads, size_t length, uint32_t seed, float sharpness = 2.0F)
      : RandomLayer(query_heads, kv_heads, length, 16, kWindow + 3, 40, seed, sharpness) {
    view.output_weights = output_projection;
    view.output = &factor;
  }
};

/// The part of the last `rows` rows of one KV head.
LayerObservation part_of(const LayerObservation& layer, size_t head, size_t rows) {
  const size_t group = layer.queries.heads / layer.keys.heads;
  LayerObservation part = layer;
  part.queries = layer.queries.slice_heads(head * group, group);
  part.keys = layer.keys.slice_heads(head, 1).slice_rows(layer.keys.rows - rows, rows);
  part.values = layer.values.slice_heads(head, 1).slice_rows(layer.keys.rows - rows, rows);
  part.output_weights = {layer.output_weights.data + head * group * layer.values.dim,
                         layer.output_weights.rows, group * layer.values.dim,
                         layer.output_weights.stride};
  part.first_query_head = head * group;
  return part;
}

TEST(OutputErrorTest, IsThatOfItsDefinition) {
  std::mt19937 rng(11);
  for (const size_t repeat : {1, 3}) {  // per query head: 3
    for (const float softcap : {0.0F, 5.0F}) {
      Layer layer(6, 2, 90, 7);
      layer.view.softcap = softcap;
      layer.view.scale = 0.3F;
      const std::vector<float> sinks{1, -3, 2, 0, 4, -1};
      if (softcap > 0) layer.view.sink_logits = sinks;
      Selection kept;
      for (size_t h = 0; h < 2 * repeat; ++h) kept.keep.push_back(some_rows(90, rng));
      const OutputError error({&layer.view, 1}, kWindow);
      const double expected = slow_error({layer.view}, kept);
      EXPECT_GT(expected, 0.05);
      EXPECT_NEAR(error.of(kept), expected, 1e-4 * expected);

      Selection all;
      for (size_t h = 0; h < 2 * repeat; ++h) {
        all.keep.emplace_back(90);
        std::iota(all.keep.back().begin(), all.keep.back().end(), 0);
      }
      EXPECT_NEAR(error.of(all), 0, 1e-6);
    }
  }
}

TEST(OutputErrorTest, IsThatOfAllHeadsTogetherIfTheyHoldDifferentNumbersOfRows) {
  std::mt19937 rng(5);
  Layer layer(6, 3, 120, 3);
  const std::vector<LayerObservation> parts{part_of(layer.view, 0, 120), part_of(layer.view, 1, 60),
                                            part_of(layer.view, 2, kWindow)};
  Selection kept;
  for (const LayerObservation& part : parts) kept.keep.push_back(some_rows(part.keys.rows, rng));
  const double expected = slow_error(parts, kept);
  EXPECT_NEAR(OutputError(parts, kWindow).of(kept), expected, 1e-4 * expected);
}

CompressionOptions chosen(const char* method, double tolerance, int most = 1 << 30) {
  CompressionOptions options = default_options(method);
  options.allocation = "uniform";
  options.window = kWindow;
  options.budget = most;
  options.tolerance = tolerance;
  return options;
}

size_t total(const Selection& selection) {
  size_t rows = 0;
  for (const auto& head : selection.keep) rows += head.size();
  return rows;
}

// The slow way: every budget is tried, with the same scores.
TEST(ChosenBudgetTest, IsTheSmallestWithinTheTolerance) {
  size_t plain = 0;
  for (const char* method : {"restkv", "snapkv", "random"}) {
    for (const char* allocation : {"uniform", "ada"}) {
      for (const uint32_t seed : {1, 2, 3}) {
        CompressionOptions options = chosen(method, 0.2);
        options.allocation = allocation;
        options.ada_normalize = false;
        SCOPED_TRACE(std::string(method) + ", " + allocation);
        const Layer layer(4, 2, 60, seed, 3.0F);
        const Selection found = select_tokens(layer.view, options);

        const LayerScores scores = score_tokens(layer.view, options);
        std::vector<double> errors;  // by budget, from window + 1 on
        std::vector<Selection> selections;
        for (int budget = kWindow + 1; budget <= 60; ++budget) {
          CompressionOptions fixed = options;
          fixed.budget = budget;
          const auto counts = allocate_budget(layer.view, scores, fixed);
          selections.push_back(select_best(scores, counts, 60));
          errors.push_back(slow_error({layer.view}, selections.back()));
        }
        const auto at = std::ranges::find(selections, found.keep, &Selection::keep);
        ASSERT_NE(at, selections.end()) << "it is not what a number would keep";
        const auto i = static_cast<size_t>(at - selections.begin());
        EXPECT_LE(errors[i], options.tolerance * (1 + 1e-4));
        if (i > 0) {
          EXPECT_GT(errors[i - 1], options.tolerance * (1 - 1e-4));
        }
        // Where more tokens never lead out of the tolerance again, it is the smallest of all.
        const auto too_large = [&](double error) { return error > options.tolerance; };
        if (!std::ranges::is_partitioned(errors, too_large)) continue;
        ++plain;
        EXPECT_EQ(i, static_cast<size_t>(std::ranges::count_if(errors, too_large)));
      }
    }
  }
  EXPECT_GT(plain, 9U) << "of 18";
}

TEST(ChosenBudgetTest, FallsWithTheTolerance) {
  for (const char* method : {"restkv", "snapkv", "cake", "dropkv", "finch", "chunkkv", "random"}) {
    const Layer layer(4, 2, 200, 4, 4.0F);
    size_t before = 2 * 200 + 1;
    std::vector<size_t> kept;
    for (const double tolerance : {1e-9, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.9}) {
      kept.push_back(total(select_tokens(layer.view, chosen(method, tolerance))));
      EXPECT_LE(kept.back(), before) << method << " " << tolerance;
      before = kept.back();
    }
    EXPECT_GE(kept.front(), 2U * 195) << method;
    EXPECT_LT(kept.back(), kept.front()) << method;
  }
}

TEST(ChosenBudgetTest, IsAtLeastTheWindowAndOneTokenAndAtMostTheBudget) {
  Layer layer(4, 2, 200, 4);
  EXPECT_EQ(total(select_tokens(layer.view, chosen("snapkv", 1e-9, 50))), 2U * 50);
  // All values are the same: whatever is dropped, nothing changes.
  for (float& v : layer.v) v = 1.0F;
  EXPECT_EQ(total(select_tokens(layer.view, chosen("snapkv", 0.01))), 2 * (kWindow + 1));
  layer.view.settled = 70;
  EXPECT_EQ(total(select_tokens(layer.view, chosen("snapkv", 0.01))), 2U * 70);
  EXPECT_EQ(total(select_tokens(layer.view, chosen("snapkv", 0.01, 60))), 2U * 60);
  layer.view.settled = 0;

  const Layer tiny(4, 2, kWindow + 1, 4);
  EXPECT_EQ(total(select_tokens(tiny.view, chosen("snapkv", 0.9))), 2 * (kWindow + 1));
}

TEST(ChosenBudgetTest, IsOneForHeadsOfDifferentLengths) {
  Layer layer(6, 3, 150, 9, 3.0F);
  const std::vector<LayerObservation> parts{part_of(layer.view, 0, 150), part_of(layer.view, 1, 60),
                                            part_of(layer.view, 2, 110)};
  const CompressionOptions options = chosen("snapkv", 0.1);
  const Selection found = select_ragged(parts, options);
  EXPECT_LE(slow_error(parts, found), 0.1 * (1 + 1e-4));
  EXPECT_LT(total(found), 320U);
  // Whole layers are the same in both functions.
  EXPECT_EQ(select_ragged({&layer.view, 1}, options).keep, select_tokens(layer.view, options).keep);
}

TEST(ChosenBudgetTest, SuitsCriticalAndQueryHeads) {
  Layer layer(4, 2, 150, 2, 3.0F);
  CompressionOptions options = chosen("snapkv", 0.1);
  options.critical = true;
  EXPECT_LE(slow_error({layer.view}, select_tokens(layer.view, options)), 0.1 * (1 + 1e-4));
  options = chosen("restkv", 0.1);
  options.per_query_head = true;
  const Selection found = select_tokens(layer.view, options);
  EXPECT_EQ(found.keep.size(), 4U);
  EXPECT_LE(slow_error({layer.view}, found), 0.1 * (1 + 1e-4));
}

TEST(ChosenBudgetTest, RefusesWhatCannotBeMeasured) {
  const auto why = [](const CompressionOptions& options) {
    return refusal(ErrorCode::kInvalidArgument, [&] { validate(options); });
  };
  for (const double tolerance : {-0.1, 1.0, 2.0, std::nan("")}) {
    EXPECT_THAT(why(chosen("snapkv", tolerance)), HasSubstr("tolerance is "));
  }
  for (const char* method : {"keydiff", "kvzip", "streaming-llm", "full"}) {
    EXPECT_THAT(why(chosen(method, 0.1)), HasSubstr("has no observation window")) << method;
  }
  EXPECT_THAT(why([] {
                CompressionOptions options = chosen("tova", 0.1);
                options.window = 0;
                return options;
              }()),
              HasSubstr("method tova has no observation window (window 0)"));
  for (const char* allocation : {"pyramid", "ada-pyramid", "global", "cake", "profile"}) {
    CompressionOptions options = chosen("snapkv", 0.1);
    options.allocation = allocation;
    EXPECT_THAT(why(options), HasSubstr("shares one budget out over the layers")) << allocation;
  }
  CompressionOptions merging = chosen("snapkv", 0.1);
  merging.merge = true;
  EXPECT_THAT(why(merging), HasSubstr("merge changes values"));
  CompressionOptions refitting = chosen("snapkv", 0.1);
  refitting.refit = Refit::kWindow;
  EXPECT_THAT(why(refitting), HasSubstr("refit changes values"));
  EXPECT_THAT(why(chosen("snapkv", 0.1, kWindow)), HasSubstr("leaves no room beside"));

  Layer layer(4, 2, 50, 1);
  layer.view.output_weights = {};
  EXPECT_THAT(refusal(ErrorCode::kInvalidArgument,
                      [&] { (void)select_tokens(layer.view, chosen("snapkv", 0.1)); }),
              HasSubstr("critical and tolerance need W_O"));
}

}  // namespace
}  // namespace restkv
