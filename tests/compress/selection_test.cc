// Properties of selections, refusals, and the output factor.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "compress/reference.h"
#include "restkv/compress.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"
#include "support/own_options.h"
#include "support/refusal.h"

namespace restkv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::RandomLayer;

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

CompressionOptions options_for(std::string_view method, int window, int budget) {
  CompressionOptions options = default_options(method);
  options.window = window;
  options.budget = budget;
  return options;
}

/// The options of every scoring variant worth a property test.
std::vector<CompressionOptions> variants(int window, int budget) {
  std::vector<CompressionOptions> all = {options_for("restkv", window, budget),
                                         options_for("restkv", window, budget),
                                         options_for("snapkv", window, budget)};
  all[1].own["order"] = "before";
  return all;
}

void expect_error(const LayerObservation& layer, const CompressionOptions& options, ErrorCode code,
                  const ::testing::Matcher<std::string>& message) {
  EXPECT_THAT(testing::refusal(code, [&] { select_tokens(layer, options); }), message);
}

std::vector<int32_t> all_positions(size_t n) {
  std::vector<int32_t> every(n);
  std::iota(every.begin(), every.end(), 0);
  return every;
}

TEST(SelectTokensTest, KeepsShortPromptsWhole) {
  const RandomLayer layer(4, 2, 50, 32, 40, 16, 1);
  for (const Method& method : methods()) {
    if (method.needs_statistics) continue;  // files are another test's business
    for (const int budget : {50, 51, 400}) {
      const CompressionOptions options = options_for(method.name, 40, budget);
      const Selection selection = select_tokens(layer.view, options);
      ASSERT_EQ(selection.keep.size(), 2U) << method.name;
      for (const auto& keep : selection.keep) EXPECT_EQ(keep, all_positions(50)) << method.name;
    }
    // A window longer than the prompt, with fewer query rows than the window.
    EXPECT_EQ(select_tokens(layer.view, options_for(method.name, 300, 400)).keep[1],
              all_positions(50));
  }
}

TEST(SelectTokensTest, FullIgnoresTheBudget) {
  const RandomLayer layer(4, 2, 50, 32, 8, 16, 1);
  CompressionOptions options = options_for("full", 32, 0);
  EXPECT_EQ(select_tokens(layer.view, options).keep.at(1), all_positions(50));
  options.per_query_head = true;
  EXPECT_EQ(select_tokens(layer.view, options).keep.size(), 4U);
}

TEST(SelectTokensTest, StreamingKeepsSinksAndRecentTokens) {
  const RandomLayer layer(4, 2, 50, 32, 8, 16, 1);
  CompressionOptions options = options_for("streaming-llm", 32, 7);
  EXPECT_EQ(select_tokens(layer.view, options).keep.at(1),
            (std::vector<int32_t>{0, 1, 2, 3, 47, 48, 49}));
  options.sinks = 0;
  EXPECT_EQ(select_tokens(layer.view, options).keep.at(0),
            (std::vector<int32_t>{43, 44, 45, 46, 47, 48, 49}));
}

TEST(SelectTokensTest, PermutedHeadsGivePermutedSelections) {
  constexpr size_t kHeads = 3;
  constexpr size_t kGroup = 2;
  constexpr size_t kDim = 32;
  const RandomLayer layer(kHeads * kGroup, kHeads, 140, kDim, 8, 64, 5);
  const size_t order[kHeads] = {2, 0, 1};
  RandomLayer turned = layer;
  const auto permute = [&](const std::vector<float>& from, std::vector<float>& to, size_t block) {
    for (size_t row = 0; row < from.size() / (kHeads * block); ++row) {
      for (size_t h = 0; h < kHeads; ++h) {
        std::copy_n(&from[(row * kHeads + order[h]) * block], block,
                    &to[(row * kHeads + h) * block]);
      }
    }
  };
  permute(layer.q, turned.q, kGroup * kDim);
  permute(layer.k, turned.k, kDim);
  permute(layer.v, turned.v, kDim);
  permute(layer.wo, turned.wo, kGroup * kDim);
  turned.factor =
      OutputFactor({turned.wo.data(), 64, kHeads * kGroup * kDim}, kHeads * kGroup, kDim);
  LayerObservation view = layer.view;
  view.queries.data = turned.q.data();
  view.keys.data = turned.k.data();
  view.values.data = turned.v.data();
  view.output = &turned.factor;
  for (const auto& options : variants(8, 40)) {
    const auto expected = select_tokens(layer.view, options).keep;
    const auto actual = select_tokens(view, options).keep;
    for (size_t h = 0; h < kHeads; ++h) EXPECT_EQ(actual[h], expected[order[h]]) << h;
    EXPECT_NE(expected[0], expected[1]);
  }
}

/// Selects and checks that scores are finite and as many tokens are kept as asked for.
void expect_finite(const LayerObservation& layer, const CompressionOptions& options) {
  SelectionTrace trace;
  const Selection selection = select_tokens(layer, options, &trace);
  for (const auto& keep : selection.keep) {
    EXPECT_EQ(keep.size(), static_cast<size_t>(options.budget));
  }
  ASSERT_FALSE(trace.raw.empty());
  for (size_t h = 0; h < trace.raw.size(); ++h) {
    for (const float x : trace.raw[h]) ASSERT_TRUE(std::isfinite(x));
    for (const float x : trace.smoothed[h]) ASSERT_TRUE(std::isfinite(x));
  }
}

TEST(SelectTokensTest, DegenerateInputsGiveFiniteScores) {
  for (const auto& options : variants(8, 40)) {
    RandomLayer equal_keys(2, 1, 100, 32, 8, 64, 6);
    for (size_t i = 32; i < equal_keys.k.size(); ++i) equal_keys.k[i] = equal_keys.k[i - 32];
    expect_finite(equal_keys.view, options);

    RandomLayer zero_values(2, 1, 100, 32, 8, 64, 6);
    std::fill(zero_values.v.begin(), zero_values.v.end(), 0.0F);
    expect_finite(zero_values.view, options);

    CompressionOptions normalized = options;
    testing::set_if_own(normalized, "normalize", true);
    expect_finite(zero_values.view, normalized);

    RandomLayer equal_values(2, 1, 100, 32, 8, 64, 6);
    for (size_t i = 32; i < equal_values.v.size(); ++i) equal_values.v[i] = equal_values.v[i - 32];
    expect_finite(equal_values.view, options);
  }
}

TEST(SelectTokensTest, AWeightOfExactlyOneIsKeptWithAFiniteScore) {
  RandomLayer layer(2, 1, 100, 32, 8, 64, 6);
  // One key takes everything: every query has a large first component.
  for (size_t i = 0; i < layer.q.size(); i += 32) layer.q[i] = 100.0F;
  for (size_t c = 0; c < 32; ++c) layer.k[17 * 32 + c] = c == 0 ? 100.0F : 0.0F;
  for (const auto& options : variants(8, 12)) {
    expect_finite(layer.view, options);
    const auto keep = select_tokens(layer.view, options).keep[0];
    EXPECT_TRUE(std::binary_search(keep.begin(), keep.end(), 17));
  }
}

TEST(SelectTokensTest, RefusesWhatIsNotFinite) {
  for (const auto& options : variants(8, 40)) {
    for (const float bad : {kNan, kInfinity, -kInfinity}) {
      RandomLayer layer(4, 2, 100, 32, 8, 64, 6);
      layer.q[(5 * 4 + 3) * 32 + 31] = bad;  // row 5 of 8: position 97
      expect_error(layer.view, options, ErrorCode::kInput,
                   AllOf(HasSubstr("queries"), HasSubstr("head 3"), HasSubstr("position 97")));
      layer = RandomLayer(4, 2, 100, 32, 8, 64, 6);
      layer.k[(41 * 2 + 1) * 32] = bad;
      layer.view.queries.data = layer.q.data();
      layer.view.keys.data = layer.k.data();
      layer.view.values.data = layer.v.data();
      layer.view.output = &layer.factor;
      expect_error(layer.view, options, ErrorCode::kInput,
                   AllOf(HasSubstr("keys"), HasSubstr("head 1"), HasSubstr("position 41")));
      layer.k[(41 * 2 + 1) * 32] = 0.0F;
      layer.v[(99 * 2 + 0) * 32 + 7] = bad;
      expect_error(layer.view, options, ErrorCode::kInput,
                   AllOf(HasSubstr("values"), HasSubstr("head 0"), HasSubstr("position 99")));
    }
  }
  RandomLayer layer(1, 1, 100, 32, 8, 64, 6);
  std::fill(layer.q.begin(), layer.q.end(), 3e30F);
  std::fill(layer.k.begin(), layer.k.end(), 3e30F);
  expect_error(layer.view, variants(8, 40)[0], ErrorCode::kInput, HasSubstr("overflow"));
}

TEST(SelectTokensTest, RefusesShapesThatDoNotFit) {
  const RandomLayer layer(4, 2, 100, 32, 8, 64, 6);
  const auto options = options_for("restkv", 8, 40);
  LayerObservation view = layer.view;
  view.queries.rows = 7;
  expect_error(view, options, ErrorCode::kInvalidArgument, HasSubstr("7 query rows"));
  view = layer.view;
  view.values.rows = 99;
  expect_error(view, options, ErrorCode::kInvalidArgument, HasSubstr("[2, 99, 32]"));
  view = layer.view;
  view.queries.heads = 3;
  expect_error(view, options, ErrorCode::kInvalidArgument, HasSubstr("3 query heads"));
  view = layer.view;
  view.output = nullptr;
  expect_error(view, options, ErrorCode::kInvalidArgument, HasSubstr("use_wo"));
  EXPECT_EQ(select_tokens(view, options_for("snapkv", 8, 40)).keep.size(), 2U);
  const std::vector<float> room(4 * 9 * 33);
  view = layer.view;
  view.lse = {room.data(), 4, 7};
  expect_error(view, options, ErrorCode::kInvalidArgument, HasSubstr("lse are [4, 7]"));
  view = layer.view;
  view.outputs = {room.data(), 4, 8, 33};
  expect_error(view, options, ErrorCode::kInvalidArgument, HasSubstr("outputs are [4, 8, 33]"));
  view.outputs = {room.data(), 4, 9, 32};
  expect_error(view, options, ErrorCode::kInvalidArgument, HasSubstr("outputs are [4, 9, 32]"));
  view.outputs = {room.data(), 2, 8, 32};
  expect_error(view, options, ErrorCode::kInvalidArgument, HasSubstr("outputs are [2, 8, 32]"));
}

TEST(ValidateTest, NamesOptionValueAndRemedy) {
  const auto refused = [](std::string_view method, auto change) {
    CompressionOptions options = default_options(method);
    change(options);
    return testing::refusal_if_any(ErrorCode::kInvalidArgument, [&] { validate(options); });
  };
  EXPECT_THAT(refused("restkv", [](auto& o) { o.budget = 32; }),
              AllOf(HasSubstr("budget 32"), HasSubstr("raise")));
  EXPECT_THAT(refused("snapkv", [](auto& o) { o.budget = -1; }), HasSubstr("budget -1"));
  EXPECT_THAT(refused("restkv", [](auto& o) { o.window = 0; }), HasSubstr("window is 0"));
  EXPECT_THAT(refused("restkv", [](auto& o) { o.kernel = 4; }),
              AllOf(HasSubstr("kernel is 4"), HasSubstr("odd"), HasSubstr("5")));
  EXPECT_THAT(refused("snapkv", [](auto& o) { o.kernel = 0; }), HasSubstr("kernel is 0"));
  EXPECT_THAT(refused("snapkv", [](auto& o) { o.kernel = -3; }), HasSubstr("kernel is -3"));
  EXPECT_EQ(refused("snapkv", [](auto& o) { o.kernel = kAutoKernel; }), "");
  for (const double alpha : {0.0, -0.1, 1.1, std::nan("")}) {
    EXPECT_THAT(refused("restkv", [&](auto& o) { o.own["alpha"] = alpha; }), HasSubstr("alpha is"));
  }
  EXPECT_THAT(refused("restkv", [](auto& o) { o.own["tau"] = 0; }), HasSubstr("tau is 0"));
  EXPECT_THAT(refused("restkv", [](auto& o) { o.drift_scale = 0; }), HasSubstr("drift_scale is 0"));
  EXPECT_THAT(refused("streaming-llm", [](auto& o) { o.budget = 4; }),
              AllOf(HasSubstr("budget 4"), HasSubstr("4 sinks")));
  EXPECT_THAT(refused("streaming-llm", [](auto& o) { o.sinks = -2; }), HasSubstr("sinks is -2"));
  EXPECT_EQ(refused("streaming-llm", [](auto& o) { o.budget = 5; }), "");
  EXPECT_EQ(refused("full", [](auto& o) { o.budget = 0; }), "");
  EXPECT_THAT(refused("restkv", [](auto& o) { o.method = "restvk"; }),
              AllOf(HasSubstr("restvk"), HasSubstr("restkv"), HasSubstr("streaming-llm")));
  using Options = CompressionOptions;
  for (const double bad : {std::nan(""), HUGE_VAL, -HUGE_VAL}) {
    for (const Method& method : methods()) {
      for (double Options::*option : {&Options::drift_scale, &Options::ada_floor,
                                      &Options::critical_ratio, &Options::critical_epsilon}) {
        EXPECT_NE(refused(method.name, [&](auto& o) { o.*option = bad; }), "")
            << method.name << " " << bad;
      }
      for (const OwnOption& own : method.own_options) {
        EXPECT_THAT(refused(method.name, [&](auto& o) { o.own[std::string(own.name)] = bad; }),
                    HasSubstr(std::string(own.name) + " is"))
            << method.name << " " << bad;
      }
    }
  }
  for (const Method& method : methods()) {
    const std::string refusal = refused(method.name, [](auto&) {});
    if (method.needs_statistics) {
      EXPECT_THAT(refusal, HasSubstr("option statistics"));
    } else {
      EXPECT_EQ(refusal, "") << method.name;
    }
    EXPECT_EQ(method.defaults.method, method.name);
  }
}

TEST(MethodTest, HasTheAuthorsValuesBesideItsOwn) {
  const CompressionOption& kernel = find_compression_option("kernel");
  EXPECT_EQ(kernel.get(default_options("restkv")), "auto");
  EXPECT_EQ(kernel.get(paper_options("restkv")), "5");
  EXPECT_EQ(kernel.get(default_options("snapkv")), "5");
  EXPECT_EQ(kernel.get(paper_options("snapkv")), "5");
  CompressionOptions options = paper_options("restkv");
  kernel.set(options, "auto");
  EXPECT_EQ(options.kernel, kAutoKernel);
  EXPECT_THROW(kernel.set(options, "-1"), Error);
  EXPECT_THROW(kernel.set(options, "wide"), Error);
}

TEST(MethodTest, SaysWhatItLooksAt) {
  CompressionOptions options = default_options("restkv");
  EXPECT_TRUE(needs_output_factor(options));
  EXPECT_EQ(observed_queries(options), 32U);
  options.own["use_wo"] = false;
  EXPECT_FALSE(needs_output_factor(options));
  options.own["use_wo"] = true;
  options.own["indicator"] = "attention";
  EXPECT_FALSE(needs_output_factor(options));
  EXPECT_FALSE(needs_output_factor(default_options("snapkv")));
  EXPECT_EQ(observed_queries(default_options("snapkv")), 32U);
  EXPECT_EQ(observed_queries(default_options("streaming-llm")), 0U);
  EXPECT_EQ(observed_queries(default_options("full")), 0U);
}

TEST(OutputFactorTest, ReproducesTheGramMatrix) {
  for (const size_t width : {1, 20, 32, 33, 200}) {  // below 32: rank-deficient
    const RandomLayer layer(3, 1, 4, 32, 1, width, 8);
    for (size_t h = 0; h < 3; ++h) {
      const Matrix<const float> r = layer.factor.head(h);
      for (size_t i = 0; i < 32; ++i) {
        for (size_t j = 0; j < 32; ++j) {
          double expected = 0.0;
          for (size_t c = 0; c < width; ++c) {
            const float* row = layer.output_projection.row(c) + h * 32;
            expected += double{row[i]} * double{row[j]};
          }
          double actual = 0.0;
          for (size_t c = 0; c < 32; ++c) actual += double{r.row(c)[i]} * double{r.row(c)[j]};
          ASSERT_NEAR(actual, expected, 2e-6 * 0.01 * double(width)) << width << " " << i << j;
          if (j < i) {
            ASSERT_EQ(r.row(i)[j], 0.0F);
          }
        }
      }
    }
  }
}

TEST(OutputFactorTest, AcceptsZeroAndRefusesNaN) {
  std::vector<float> wo(16 * 64, 0.0F);
  const OutputFactor zero({wo.data(), 16, 64}, 2, 32);
  EXPECT_EQ(zero.bytes(), 2 * 32 * 32 * sizeof(float));
  for (const float x : std::span(zero.head(1).data, 32 * 32)) EXPECT_EQ(x, 0.0F);
  EXPECT_THROW(OutputFactor({wo.data(), 16, 64}, 3, 32), Error);
  wo[5 * 64 + 40] = kNan;
  EXPECT_THROW(OutputFactor({wo.data(), 16, 64}, 2, 32), Error);
}

}  // namespace
}  // namespace restkv
