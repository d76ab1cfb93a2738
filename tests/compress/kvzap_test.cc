// kvzap without a model: its scores written out, its threshold under every allocation, and what it
// says about files that do not suit it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "compress/calibration.h"
#include "compress/reference.h"
#include "restkv/compress.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"
#include "restkv/stages.h"
#include "support/refusal.h"
#include "support/statistics.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::RandomLayer;
using testing::StatisticsFile;

constexpr size_t kLayers = 3;
constexpr size_t kHeads = 4;
constexpr size_t kGroups = 2;
constexpr size_t kLength = 120;
constexpr size_t kWidth = 20;

class KvzapTest : public ::testing::Test {
 protected:
  KvzapTest() {
    StatisticsFile::of(kLayers, kHeads, 4, kGroups, kWidth).write(path_);
    options_.statistics = path_;
    options_.budget = 40;
    options_.window = 10;
    options_.sinks = 3;
    for (size_t i = 0; i < kLength * kWidth; ++i) {
      inputs_.push_back(std::sin(static_cast<float>(i * i % 1013)));
    }
    observe(1);
  }
  /// Shows the tokens to the method, in two blocks.
  void observe(size_t layer) {
    numbers_.assign(kHeads * kLength, std::numeric_limits<float>::quiet_NaN());
    const Matrix<const float> all(inputs_.data(), kLength, kWidth);
    for (const auto& [begin, end] : {std::pair<size_t, size_t>{0, 70}, {70, kLength}}) {
      BlockObservation block;
      block.queries = layer_.view.queries.slice_rows(0, 1);
      block.inputs = all.slice(begin, end - begin);
      block.keys = layer_.view.keys.slice_rows(0, end);
      block.begin = begin;
      block.end = end;
      block.layer = layer;
      find_method("kvzap").watch(block, options_, {numbers_.data(), kHeads, kLength});
    }
    layer_.view.watched = {numbers_.data(), kHeads, kLength};
    layer_.view.layer = layer;
  }
  /// W x + b.
  [[nodiscard]] double predicted(size_t layer, size_t head, size_t position) const {
    const auto calibration = read_calibration(path_);
    const ScoreMap& map = calibration->scores.at(layer);
    double sum{map.bias[head]};
    for (size_t c = 0; c < kWidth; ++c) {
      sum += double{map.weights[head * kWidth + c]} * double{inputs_[position * kWidth + c]};
    }
    return sum;
  }
  std::string written(const std::string& text) {
    std::ofstream(path_) << text;
    return testing::refusal(ErrorCode::kInput, [&] { validate(options_); });
  }

  testing::TemporaryFolder folder_;
  std::string path_ = folder_.file("statistics.json");
  RandomLayer layer_{kHeads, kGroups, kLength, 24, 32, 32, 1};
  CompressionOptions options_ = default_options("kvzap");
  std::vector<float> inputs_, numbers_;
};

TEST_F(KvzapTest, ScoresAreTheLinearMapOfTheLayer) {
  for (const size_t layer : {size_t{0}, size_t{2}}) {
    observe(layer);
    const LayerScores scores = score_tokens(layer_.view, options_);
    EXPECT_EQ(scores.heads, kGroups);
    EXPECT_EQ(scores.candidates, kLength - 10);
    for (size_t h = 0; h < kGroups; ++h) {
      for (size_t j = 3; j < scores.candidates; ++j) {
        ASSERT_NEAR(scores.rows().row(h)[j], predicted(layer, h, j), 1e-4) << h << " " << j;
        ASSERT_LT(scores.rows().row(h)[j], scores.rows().row(h)[2]);
      }
    }
  }
}

/// Of the candidates of a head those that reach the threshold, sinks and window.
TEST_F(KvzapTest, TheThresholdDropsWhereverTheBudgetHasRoom) {
  options_.budget = 1000;
  options_.own["threshold"] = -6.0;
  std::vector<std::vector<int32_t>> expected(kGroups);
  for (size_t h = 0; h < kGroups; ++h) {
    for (size_t j = 0; j < kLength; ++j) {
      const double score = predicted(1, h, j);
      ASSERT_GT(std::abs(score + 6.0), 1e-4);
      if (j < 3 || j >= kLength - 10 || score >= -6.0) {
        expected[h].push_back(static_cast<int32_t>(j));
      }
    }
    ASSERT_GT(expected[h].size(), 20U);
    ASSERT_LT(expected[h].size(), 110U);
  }
  for (const char* allocation : {"uniform", "ada", "pyramid"}) {
    options_.allocation = allocation;
    EXPECT_EQ(select_tokens(layer_.view, options_).keep, expected) << allocation;
    EXPECT_EQ(select_ragged({&layer_.view, 1}, options_).keep, expected) << allocation;
  }
  options_.allocation = "global";
  layer_.view.layers = 2;
  LayerCascade cascade(options_);
  EXPECT_EQ(cascade.add({&layer_.view, 1}).back().keep, expected);
  const auto both = cascade.add({&layer_.view, 1});
  EXPECT_EQ(both.back().keep, expected);
  for (size_t h = 0; h < kGroups; ++h) EXPECT_EQ(both[0].keep[h].size(), expected[h].size());

  // The budget is the most that is kept, and without a threshold all of it.
  layer_.view.layers = 1;
  options_.allocation = "uniform";
  options_.budget = 25;
  for (const auto& keep : select_tokens(layer_.view, options_).keep) EXPECT_EQ(keep.size(), 25U);
  options_.budget = 1000;
  options_.own.erase("threshold");
  EXPECT_EQ(select_tokens(layer_.view, options_).keep[0].size(), kLength);
  EXPECT_FALSE(least_score(options_));
  EXPECT_TRUE(keeps_whole(options_, 1000));
}

TEST_F(KvzapTest, ThresholdIsANumberOrNone) {
  const CompressionOption& option = find_compression_option("threshold");
  EXPECT_EQ(option.get(options_), "none");
  option.set(options_, "-4.5");
  EXPECT_EQ(least_score(options_), -4.5);
  EXPECT_EQ(option.get(options_), "-4.5");
  option.set(options_, "none");
  EXPECT_FALSE(least_score(options_));
  options_.own["threshold"] = -3;
  EXPECT_EQ(least_score(options_), -3.0);
  for (const char* wrong : {"low", "inf", "nan", "", "X"}) {
    EXPECT_THAT(testing::refusal(ErrorCode::kInvalidArgument, [&] { option.set(options_, wrong); }),
                AllOf(HasSubstr("threshold is"), HasSubstr("number, or none")));
  }
  options_.own["threshold"] = std::string("X");
  EXPECT_THAT(testing::refusal(ErrorCode::kInvalidArgument, [&] { validate(options_); }),
              HasSubstr("threshold is"));
}

TEST_F(KvzapTest, FilesThatDoNotSuitAreRefusedByName) {
  const CacheShape fits{
      .layers = kLayers, .kv_heads = kGroups, .query_heads = kHeads, .width = kWidth};
  const auto refused = [&](auto change) {
    CacheShape shape = fits;
    change(shape);
    return testing::refusal(ErrorCode::kInput, [&] { validate(options_, shape); });
  };
  validate(options_, fits);
  EXPECT_THAT(refused([](auto& s) { s.layers = 4; }),
              AllOf(HasSubstr("3 layers"), HasSubstr("4"), HasSubstr(path_)));
  EXPECT_THAT(refused([](auto& s) { s.kv_heads = 4; }), HasSubstr("4 KV heads"));
  EXPECT_THAT(refused([](auto& s) { s.width = 64; }),
              AllOf(HasSubstr("reads 20 channels"), HasSubstr("64 channels")));

  // Of another model of the same shape.
  Calibration calibration = *read_calibration(path_);
  calibration.model = 0xFEDCBA9876543210;
  calibration.description = "llama \"tiny\"";
  std::ofstream(path_) << calibration_text(calibration);
  CacheShape shape = fits;
  validate(options_, shape);  // which model it is, nobody knows
  shape.model = 0xFEDCBA9876543210;
  validate(options_, shape);
  EXPECT_THAT(refused([](auto& s) { s.model = 5; }),
              AllOf(HasSubstr("another model"), HasSubstr("llama \"tiny\"")));
  CompressionOptions other = default_options("triattention");
  other.statistics = path_;
  validate(other, shape);
  shape.model = 5;
  EXPECT_THAT(testing::refusal(ErrorCode::kInput, [&] { validate(other, shape); }),
              HasSubstr("another model"));

  EXPECT_THAT(written("[]"), HasSubstr("statistics.json"));
  EXPECT_THAT(written(R"({"layers": [[{"real": [1], "imaginary": [1], "magnitude": [1]}]]})"),
              HasSubstr("no \"kvzap\""));
  EXPECT_THAT(written(R"({"kvzap": []})"), HasSubstr("kvzap"));
  EXPECT_THAT(written(R"({"kvzap": [3]})"), AllOf(HasSubstr("layer 0 of kvzap"), HasSubstr("3")));
  EXPECT_THAT(written(R"({"kvzap": [{"weights": [[1]]}]})"), HasSubstr("bias"));
  EXPECT_THAT(written(R"({"kvzap": [{"weights": [[1], [2, 3]], "bias": [1, 2]}]})"),
              HasSubstr("rows of 1 and 2"));
  EXPECT_THAT(written(R"({"kvzap": [{"weights": [[1], [2]], "bias": [1]}]})"),
              HasSubstr("2 weights and 1 bias"));
  EXPECT_THAT(written(R"({"kvzap": [{"weights": [["x"]], "bias": [1]}]})"), HasSubstr("\"x\""));
  EXPECT_THAT(written(R"({"kvzap": [{"weights": [[1e40]], "bias": [1]}]})"), HasSubstr("1e+40"));
  EXPECT_THAT(written(R"({"kvzap": [{"weights": [[1]], "bias": [1], "wieghts": 2}]})"),
              HasSubstr("wieghts"));
  EXPECT_THAT(written(R"({"kvzap": [{"weights": [[1, 2]], "bias": [1], "hidden_bias": [1]}]})"),
              HasSubstr("hidden_weights"));
  EXPECT_THAT(
      written(
          R"({"kvzap": [{"weights": [[1]], "bias": [1], "hidden_bias": [1, 2], "hidden_weights": [[1]]}]})"),
      HasSubstr("1 hidden_weights, 2 hidden_bias"));
  EXPECT_THAT(written(R"({"kvzap": [{"weights": [[1]], "bias": [1], "fit": [1, 1]}]})"),
              HasSubstr("2 numbers in \"fit\""));
  EXPECT_THAT(written(R"({"kvzip": []})"), AllOf(HasSubstr("kvzip"), HasSubstr("known are")));
  EXPECT_THAT(written(R"({"model": {"fingerprint": "12"}, "kvzap": []})"), HasSubstr("16"));
  EXPECT_THAT(written(R"({"tokens": -1, "kvzap": []})"), HasSubstr("-1 tokens"));
  EXPECT_THAT(written("nothing"), HasSubstr("statistics.json"));

  options_.statistics.clear();
  EXPECT_THAT(testing::refusal(ErrorCode::kInvalidArgument, [&] { validate(options_); }),
              AllOf(HasSubstr("option statistics"), HasSubstr("restkv calibrate")));
}

TEST_F(KvzapTest, AFileThatHasGoneStaysKnown) {
  const auto before = select_tokens(layer_.view, options_).keep;
  std::filesystem::remove(path_);
  EXPECT_EQ(select_tokens(layer_.view, options_).keep, before);
  observe(1);
  options_.statistics = folder_.file("another.json");
  EXPECT_THAT(testing::refusal(ErrorCode::kInput, [&] { validate(options_); }),
              HasSubstr("another.json"));
}

TEST_F(KvzapTest, RefusesInputsWithoutAnOrder) {
  inputs_[50 * kWidth + 3] = std::numeric_limits<float>::infinity();
  EXPECT_THAT(testing::refusal(ErrorCode::kInput, [&] { observe(1); }),
              AllOf(HasSubstr("layer 1"), HasSubstr("position 0")));
  EXPECT_THAT(testing::refusal(ErrorCode::kInput, [&] { observe(3); }),
              AllOf(HasSubstr("layer 3"), HasSubstr(path_)));
  inputs_[50 * kWidth + 3] = 0;
  observe(1);
  numbers_[30] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_THAT(testing::refusal(ErrorCode::kInput, [&] { select_tokens(layer_.view, options_); }),
              AllOf(HasSubstr("row 30"), HasSubstr("KV head 0")));
}

TEST_F(KvzapTest, RefusesOptionsByName) {
  const auto refused = [&](auto change) {
    CompressionOptions options = options_;
    change(options);
    return testing::refusal_if_any(ErrorCode::kInvalidArgument, [&] { validate(options); });
  };
  EXPECT_EQ(refused([](auto&) {}), "");
  EXPECT_THAT(refused([](auto& o) { o.window = -1; }), HasSubstr("window is -1"));
  EXPECT_THAT(refused([](auto& o) { o.sinks = -1; }), HasSubstr("sinks -1"));
  EXPECT_THAT(refused([](auto& o) { o.sinks = 30; }), HasSubstr("budget 40"));
  EXPECT_THAT(refused([](auto& o) { o.critical = true, o.allocation = "uniform"; }),
              HasSubstr("critical"));
  EXPECT_THAT(refused([](auto& o) { o.ada_normalize = true, o.allocation = "ada"; }),
              HasSubstr("ada_normalize"));
}

}  // namespace
}  // namespace restkv
