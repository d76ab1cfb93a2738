// triattention against its cosines written out, and what it says about files that do not suit it.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <numeric>
#include <string>
#include <vector>

#include "compress/reference.h"
#include "restkv/compress.h"
#include "restkv/error.h"
#include "support/refusal.h"
#include "support/statistics.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::RandomLayer;
using testing::StatisticsFile;

constexpr size_t kHeads = 4;
constexpr size_t kGroups = 2;
constexpr size_t kLength = 120;
constexpr size_t kDim = 24;
constexpr size_t kPairs = kDim / 2;
constexpr double kBase = 5000;

class TriAttentionTest : public ::testing::Test {
 protected:
  TriAttentionTest() {
    statistics_.write(path_);
    options_.statistics = path_;
    options_.budget = 40;
    options_.window = 10;
    options_.sinks = 3;
    observe(kLength);
    layer_.view.layers = 3;
    layer_.view.layer = 1;
  }
  /// Rotations for `next` as the position of the next token.
  void observe(size_t next) {
    std::vector<size_t> positions;
    for (const size_t o : rotation_offsets(options_)) positions.push_back(next + o);
    rotations_ = testing::rotations_of(kPairs, kBase, positions);
    layer_.view.rotations = rotations_;
  }
  std::string written(const std::string& text) {
    std::ofstream(path_) << text;
    return testing::refusal(ErrorCode::kInput, [&] { validate(options_); });
  }

  testing::TemporaryFolder folder_;
  std::string path_ = folder_.file("statistics.json");
  StatisticsFile statistics_ = StatisticsFile::of(3, kHeads, kPairs);
  RandomLayer layer_{kHeads, kGroups, kLength, kDim, 4, 32, 1};
  CompressionOptions options_ = default_options("triattention");
  std::vector<MeanRotation> rotations_;
};

TEST_F(TriAttentionTest, IsTheCosineSeriesOfDistances) {
  for (const bool largest : {false, true}) {
    for (const bool mlr : {false, true}) {
      for (const int farthest : {1, 40, 5000}) {
        options_.own["over_offsets"] = largest ? "max" : "mean";
        options_.own["mlr"] = mlr;
        options_.own["offset_max"] = farthest;
        observe(kLength);
        SelectionTrace trace;
        select_tokens(layer_.view, options_, &trace);
        ASSERT_EQ(trace.raw.size(), kHeads);
        for (size_t h = 0; h < kHeads; ++h) {
          for (const size_t j : {size_t{0}, size_t{57}, kLength - 1}) {
            // The key before rotary embedding is (|k_f|, phase_f - j omega_f).
            const float* key = layer_.view.keys.row(h / 2, j);
            std::vector<double> series;
            double rest = 0.0;
            for (size_t o = 1; o <= static_cast<size_t>(farthest); o *= 2) {
              double sum = 0.0;
              for (size_t f = 0; f < kPairs; ++f) {
                const double omega = std::pow(kBase, -double(f) / kPairs);
                const double length = std::hypot(key[f], key[f + kPairs]);
                const double phase = std::atan2(key[f + kPairs], key[f]) - double(j) * omega;
                const size_t at = (kHeads + h) * kPairs + f;
                const double mean = std::hypot(statistics_.real[at], statistics_.imaginary[at]);
                const double angle = std::atan2(statistics_.imaginary[at], statistics_.real[at]);
                const double distance = double(kLength) - double(j) + double(o);
                sum += mean * length * std::cos(distance * omega + angle - phase);
                if (o == 1) {
                  rest += (statistics_.magnitude[at] - (mlr ? mean : 0.0)) * length;
                }
              }
              series.push_back(sum);
            }
            const double expected =
                rest + (largest ? *std::ranges::max_element(series)
                                : std::accumulate(series.begin(), series.end(), 0.0) /
                                      double(series.size()));
            EXPECT_NEAR(trace.raw[h][j], expected, 1e-4) << h << " " << j;
          }
        }
      }
    }
  }
}

TEST_F(TriAttentionTest, KeepsSinksAndWindowAndStandardisesWhatCompetes) {
  SelectionTrace trace;
  const Selection selection = select_tokens(layer_.view, options_, &trace);
  for (size_t kv_head = 0; kv_head < kGroups; ++kv_head) {
    const auto& keep = selection.keep[kv_head];
    ASSERT_EQ(keep.size(), 40U);
    EXPECT_TRUE(std::equal(keep.begin(), keep.begin() + 3, std::vector{0, 1, 2}.begin()));
    EXPECT_EQ(keep[30], 110);
    std::vector<double> expected(110, -1e9);
    for (size_t h = 2 * kv_head; h < 2 * kv_head + 2; ++h) {
      const std::vector<float> row(trace.raw[h].begin() + 3, trace.raw[h].begin() + 110);
      double mean = 0.0;
      for (const float x : row) mean += x / 107.0;
      double variance = 0.0;
      for (const float x : row) variance += (x - mean) * (x - mean) / 107.0;
      for (size_t j = 3; j < 110; ++j) {
        expected[j] = std::max(expected[j], (row[j - 3] - mean) / std::sqrt(variance));
      }
    }
    for (size_t j = 3; j < 110; ++j) {
      EXPECT_NEAR(trace.scores[kv_head][j], expected[j], 1e-4) << j;
      EXPECT_LT(trace.scores[kv_head][j], trace.scores[kv_head][0]);
    }
  }
}

TEST_F(TriAttentionTest, AnotherFileIsReadAgain) {
  const auto before = select_tokens(layer_.view, options_).keep;
  const StatisticsFile other = [&] {
    StatisticsFile file = statistics_;
    for (float& x : file.real) x = -x;
    for (float& x : file.imaginary) x *= 0.3F;
    return file;
  }();
  const std::string second = folder_.file("other.json");
  other.write(second);
  options_.statistics = second;
  EXPECT_NE(select_tokens(layer_.view, options_).keep, before);
  options_.statistics = path_;
  EXPECT_EQ(select_tokens(layer_.view, options_).keep, before);
}

TEST_F(TriAttentionTest, FilesThatDoNotSuitAreRefusedByName) {
  const auto shape = [&](size_t layers, size_t heads) {
    return testing::refusal(ErrorCode::kInput, [&] {
      validate(options_, {.layers = layers, .kv_heads = 2, .query_heads = heads});
    });
  };
  validate(options_, {.layers = 3, .kv_heads = 2, .query_heads = kHeads});
  EXPECT_THAT(shape(4, kHeads), AllOf(HasSubstr("3 layers"), HasSubstr("4"), HasSubstr(path_)));
  EXPECT_THAT(shape(3, 8), AllOf(HasSubstr("4 heads"), HasSubstr("8 query heads")));
  LayerObservation view = layer_.view;
  const auto shorter = testing::rotations_of(5, kBase, std::vector<size_t>(17, 9));
  view.rotations = shorter;
  EXPECT_THAT(testing::refusal(ErrorCode::kInput, [&] { select_tokens(view, options_); }),
              AllOf(HasSubstr("5 rotated pairs"), HasSubstr("layer 1")));
  view.rotations = {};
  EXPECT_THAT(testing::refusal(ErrorCode::kInvalidArgument, [&] { select_tokens(view, options_); }),
              AllOf(HasSubstr("17"), HasSubstr("rotations")));

  EXPECT_THAT(written("{}"), HasSubstr("layers"));
  EXPECT_THAT(written(R"({"layers": []})"), HasSubstr("layers"));
  EXPECT_THAT(written(R"({"layers": [3]})"), AllOf(HasSubstr("layer 0"), HasSubstr("3")));
  EXPECT_THAT(written(R"({"layers": [[{"real": [1], "imaginary": [1]}]]})"),
              AllOf(HasSubstr("layer 0, head 0"), HasSubstr("magnitude")));
  EXPECT_THAT(written(R"({"layers": [[{"real": [1], "imaginary": ["x"], "magnitude": [1]}]]})"),
              AllOf(HasSubstr("imaginary"), HasSubstr("x")));
  EXPECT_THAT(written(R"({"layers": [[{"real": [1, 2], "imaginary": [1], "magnitude": [1]}]]})"),
              HasSubstr("2 real, 1 imaginary"));
  EXPECT_THAT(written("nothing"), HasSubstr("statistics.json"));

  options_.statistics.clear();
  EXPECT_THAT(testing::refusal(ErrorCode::kInvalidArgument, [&] { validate(options_); }),
              HasSubstr("option statistics"));
}

TEST_F(TriAttentionTest, RefusesOptionsByName) {
  const auto refused = [&](auto change) {
    CompressionOptions options = options_;
    change(options);
    return testing::refusal_if_any(ErrorCode::kInvalidArgument, [&] { validate(options); });
  };
  EXPECT_EQ(refused([](auto&) {}), "");
  EXPECT_THAT(refused([](auto& o) { o.window = -1; }), HasSubstr("window is -1"));
  EXPECT_THAT(refused([](auto& o) { o.sinks = -1; }), HasSubstr("sinks -1"));
  EXPECT_THAT(refused([](auto& o) { o.sinks = 30; }), HasSubstr("budget 40"));
  EXPECT_THAT(refused([](auto& o) { o.own["offset_max"] = 0; }), HasSubstr("offset_max is 0"));
  EXPECT_THAT(refused([](auto& o) { o.ada_normalize = true, o.allocation = "ada"; }),
              HasSubstr("ada_normalize"));
}

}  // namespace
}  // namespace restkv
