// The fast path against the definitions in float64, on random layers and on every instruction set.

#include "compress/reference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "restkv/attention.h"
#include "restkv/compress.h"
#include "restkv/error.h"
#include "support/simd.h"

namespace restkv {
namespace {

using testing::RandomLayer;
using testing::ReferenceResult;

using Rows = std::vector<std::vector<double>>;

void expect_close(const std::vector<std::vector<float>>& actual, const Rows& expected,
                  const char* what) {
  ASSERT_EQ(actual.size(), expected.size()) << what;
  for (size_t h = 0; h < expected.size(); ++h) {
    ASSERT_EQ(actual[h].size(), expected[h].size()) << what;
    const double largest = *std::max_element(expected[h].begin(), expected[h].end());
    for (size_t n = 0; n < expected[h].size(); ++n) {
      ASSERT_NEAR(double{actual[h][n]}, expected[h][n],
                  1e-4 * std::abs(expected[h][n]) + 1e-6 * largest)
          << what << " of head " << h << ", position " << n;
    }
  }
}

/// Ascending, as many as the budget, the window whole; and nothing kept that scores clearly less
/// than something dropped.
void expect_best_kept(const Selection& selection, const Rows& scores,
                      const CompressionOptions& options, size_t length) {
  ASSERT_EQ(selection.keep.size(), scores.size());
  const size_t past = length - static_cast<size_t>(options.window);
  for (size_t h = 0; h < scores.size(); ++h) {
    const auto& keep = selection.keep[h];
    ASSERT_EQ(keep.size(), std::min(static_cast<size_t>(options.budget), length));
    ASSERT_TRUE(std::is_sorted(keep.begin(), keep.end(), std::less_equal<>()));
    std::vector<bool> kept(length, false);
    for (const int32_t n : keep) kept.at(static_cast<size_t>(n)) = true;
    for (size_t n = past; n < length; ++n) ASSERT_TRUE(kept[n]) << "window position " << n;
    double worst_kept = 1e300;
    double best_dropped = -1e300;
    for (size_t n = 0; n < past; ++n) {
      if (kept[n]) {
        worst_kept = std::min(worst_kept, scores[h][n]);
      } else {
        best_dropped = std::max(best_dropped, scores[h][n]);
      }
    }
    if (best_dropped < 0) continue;  // nothing dropped
    EXPECT_GE(worst_kept, best_dropped * (1 - 1e-5)) << "head " << h;
  }
}

void compare(const LayerObservation& layer, Matrix<const float> wo,
             const CompressionOptions& options) {
  const ReferenceResult expected = testing::reference_scores(layer, wo, options);
  for (const int64_t target : testing::simd_targets()) {
    SCOPED_TRACE(testing::simd_target_name(target));
    const testing::ForcedSimdTarget forced(target);
    SelectionTrace trace;
    const Selection selection = select_tokens(layer, options, &trace);
    expect_close(trace.raw, expected.raw, "raw");
    ASSERT_EQ(trace.drift.size(), expected.drift.size());
    for (size_t h = 0; h < expected.drift.size(); ++h) {
      EXPECT_NEAR(double{trace.drift[h]}, expected.drift[h], 0.05) << "drift of head " << h;
    }
    ASSERT_EQ(trace.kernel, expected.kernel);
    ASSERT_EQ(trace.shift, expected.shift);
    expect_close(trace.smoothed, expected.smoothed, "smoothed");
    expect_best_kept(selection, expected.scores, options, layer.keys.rows);
    EXPECT_EQ(select_tokens(layer, options).keep, selection.keep) << "with and without a trace";
  }
}

CompressionOptions small_options(int window, int budget) {
  CompressionOptions options = default_options("restkv");
  options.window = window;
  options.budget = budget;
  options.drift_scale = 7;  // short prompts drift by few positions
  return options;
}

TEST(ReferenceTest, ThisMachineRunsMoreThanOneInstructionSet) {
  EXPECT_GE(testing::simd_targets().size(), 2U);
}

TEST(ReferenceTest, EveryHeadSizeOrderAndErrorSpace) {
  uint32_t seed = 1;
  for (const size_t dim : {24, 30, 32, 48, 64, 80, 96, 128, 256}) {
    for (const std::string order : {"after", "before"}) {
      for (const bool use_wo : {true, false}) {
        SCOPED_TRACE(::testing::Message()
                     << "d " << dim << ", use_wo " << use_wo << ", before " << (order == "before"));
        // 40 output channels: W_h has full column rank for the small heads only.
        const RandomLayer layer(4, 2, 131, dim, 19, 40, ++seed);
        CompressionOptions options = small_options(16, 60);
        options.own["order"] = order;
        options.own["use_wo"] = use_wo;
        compare(layer.view, layer.output_projection, options);
      }
    }
  }
}

TEST(ReferenceTest, LengthsWindowsAndBudgets) {
  struct Shape {
    size_t length;
    int window;
    int budget;
  };
  const Shape shapes[] = {{33, 32, 33},   {40, 5, 39},     {64, 1, 2},     {65, 7, 20},
                          {127, 32, 127}, {513, 9, 100},   {515, 32, 400}, {1025, 3, 1024},
                          {1537, 6, 700}, {4203, 4, 1000}, {5000, 2, 64}};
  uint32_t seed = 100;
  for (const auto& [length, window, budget] : shapes) {
    for (const std::string order : {"after", "before"}) {
      SCOPED_TRACE(::testing::Message() << "n " << length << ", window " << window << ", budget "
                                        << budget << ", before " << (order == "before"));
      const RandomLayer layer(3, 1, length, 32, static_cast<size_t>(window), 24, ++seed);
      CompressionOptions options = small_options(window, budget);
      options.own["order"] = order;
      options.drift_scale = static_cast<double>(length) / 30;
      compare(layer.view, layer.output_projection, options);
    }
  }
}

TEST(ReferenceTest, EveryWayToSmoothAndReduce) {
  const RandomLayer layer(6, 2, 203, 32, 8, 48, 7);
  for (const auto pooling :
       {Pooling::kNone, Pooling::kAverage, Pooling::kMax, Pooling::kAdaptive}) {
    for (const auto reduce : {GroupReduce::kMean, GroupReduce::kMax, GroupReduce::kSum}) {
      for (const int where : {0, 1, 2}) {
        SCOPED_TRACE(::testing::Message() << "pooling " << static_cast<int>(pooling) << ", reduce "
                                          << static_cast<int>(reduce) << ", where " << where);
        CompressionOptions options = small_options(8, 50);
        options.pooling = pooling;
        options.kernel = where == 2 ? kAutoKernel : 7;
        options.group_reduce = reduce;
        options.reduce_before_pooling = where == 1;
        options.per_query_head = where == 2;
        compare(layer.view, layer.output_projection, options);
        options.method = "snapkv";
        CompressionOptions attention = options;
        attention.method = "restkv";
        attention.own["indicator"] = "attention";
        EXPECT_EQ(select_tokens(layer.view, options).keep,
                  select_tokens(layer.view, attention).keep);
      }
    }
  }
}

TEST(ReferenceTest, AblationsAndParameters) {
  const RandomLayer layer(4, 2, 150, 48, 12, 100, 9);
  std::vector<CompressionOptions> variants;
  const auto variant = [&]() -> CompressionOptions& {
    return variants.emplace_back(small_options(12, 40));
  };
  for (const std::string order : {"after", "before"}) {
    for (const std::string temporal : {"ema", "mean", "inverse-ema", "newest"}) {
      auto& options = variant();
      options.own["order"] = order;
      options.own["temporal"] = temporal;
    }
    for (const double alpha : {0.05, 0.8, 1.0}) {
      auto& options = variant();
      options.own["order"] = order;
      options.own["alpha"] = alpha;
    }
  }
  for (const double tau : {0.5, 2.0}) variant().own["tau"] = tau;
  for (const bool use_wo : {true, false}) {
    auto& options = variant();
    options.own["order"] = "before";
    options.own["normalize"] = true;
    options.own["use_wo"] = use_wo;
  }
  variant().own["indicator"] = "attention";
  variant().own["indicator"] = "attention-value";
  for (size_t i = 0; i < variants.size(); ++i) {
    SCOPED_TRACE(::testing::Message() << "variant " << i);
    compare(layer.view, layer.output_projection, variants[i]);
  }
}

TEST(ReferenceTest, ScaleAndSoftcap) {
  RandomLayer layer(2, 2, 100, 64, 8, 80, 11);
  layer.view.scale = 0.2F;
  compare(layer.view, layer.output_projection, small_options(8, 30));
  layer.view.softcap = 3.0F;
  compare(layer.view, layer.output_projection, small_options(8, 30));
}

/// A column without a value takes a part of all weights. What errors are relative to is no longer
/// an average of values.
TEST(ReferenceTest, Sinks) {
  const std::vector<float> sinks{4, -1, 7, 2};
  for (const size_t kv_heads : {2, 4}) {
    RandomLayer layer(4, kv_heads, 100, 64, 8, 80, 17);
    layer.view.sink_logits = sinks;
    for (const std::string order : {"after", "before"}) {
      CompressionOptions options = small_options(8, 30);
      options.own["order"] = order;
      compare(layer.view, layer.output_projection, options);
    }
    for (const std::string indicator : {"attention", "attention-value"}) {
      CompressionOptions options = small_options(8, 30);
      options.own["indicator"] = indicator;
      compare(layer.view, layer.output_projection, options);
    }
    // The engine's denominators and outputs have met the sinks already.
    std::vector<float> lse(4 * 8), outputs(4 * 8 * 64);
    prefill_attention(layer.view.queries, layer.view.keys, layer.view.values, 92,
                      {.sink_logits = sinks}, {outputs.data(), 4, 8, 64}, {lse.data(), 4, 8});
    layer.view.lse = {lse.data(), 4, 8};
    layer.view.outputs = {outputs.data(), 4, 8, 64};
    compare(layer.view, layer.output_projection, small_options(8, 30));
    layer.view.sink_logits = layer.view.sink_logits.first(3);
    EXPECT_THROW((void)select_tokens(layer.view, small_options(8, 30)), Error);
  }
}

TEST(ReferenceTest, SharpAttention) {
  const RandomLayer layer(2, 1, 300, 64, 8, 80, 13, 4.0F);
  for (const std::string order : {"after", "before"}) {
    CompressionOptions options = small_options(8, 40);
    options.own["order"] = order;
    compare(layer.view, layer.output_projection, options);
  }
}

}  // namespace
}  // namespace restkv
