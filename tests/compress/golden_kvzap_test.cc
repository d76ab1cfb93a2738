// Scores of kvzap, and what its threshold drops from a prompt and from the tokens after it, against
// NVIDIA kvpress. Its calibration is compared in calibrate_test.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "compress/calibration.h"
#include "restkv/compress.h"
#include "restkv/stages.h"
#include "support/golden.h"
#include "support/simd.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using testing::GoldenCase;

/// Writes the weights that a case gives.
void write_weights(const GoldenCase& golden, const std::string& path) {
  ScoreMap map;
  map.width = golden.shape("w").at(1);
  if (golden.params().at("model") == "linear") {
    map.weights = golden.floats("w");
    map.bias = golden.floats("b");
  } else {
    map.hidden_weights = golden.floats("w1");
    map.hidden_bias = golden.floats("b1");
    map.weights = golden.floats("w2");
    map.bias = golden.floats("b2");
  }
  Calibration calibration;
  calibration.scores.push_back(map);
  std::ofstream(path) << calibration_text(calibration);
}

std::vector<std::vector<int32_t>> ragged(const GoldenCase& golden, const std::string& name) {
  std::vector<std::vector<int32_t>> rows;
  auto next = golden.ints(name + "_flat").begin();
  for (const int32_t count : golden.ints(name + "_len")) {
    rows.emplace_back(next, next + count);
    next += count;
  }
  return rows;
}

/// What the cache of a layer holds, head by head: positions, and the numbers that were watched.
class Cache {
 public:
  Cache(const GoldenCase& golden, const CompressionOptions& options)
      : inputs_(golden.matrix("h")), options_(options), heads_(golden.shape("w").at(0)) {
    positions.resize(heads_);
    numbers_.resize(heads_);
  }

  /// Adds rows [begin, end) of the inputs.
  void read(size_t begin, size_t end) {
    const size_t count = end - begin;
    std::vector<float> numbers(heads_ * count, std::numeric_limits<float>::quiet_NaN());
    BlockObservation block;
    block.queries = {nullptr, heads_, count, 1};
    block.inputs = inputs_.slice(begin, count);
    block.keys = {nullptr, heads_, 0, 1};
    block.end = count;
    find_method("kvzap").watch(block, options_, {numbers.data(), heads_, count});
    for (size_t h = 0; h < heads_; ++h) {
      for (size_t i = 0; i < count; ++i) {
        positions[h].push_back(static_cast<int32_t>(begin + i));
        numbers_[h].push_back(numbers[h * count + i]);
      }
    }
  }

  [[nodiscard]] LayerScores scores() {
    std::vector<LayerObservation> heads = observe();
    LayerScores all(heads_, positions[0].size());
    for (size_t h = 0; h < heads_; ++h) {
      const LayerScores of_head = score_tokens(heads[h], options_);
      std::ranges::copy(of_head.values, all.rows().row(h));
    }
    return all;
  }

  void cut() {
    const Selection selection = select_ragged(observe(), options_);
    for (size_t h = 0; h < heads_; ++h) {
      std::vector<int32_t> left;
      std::vector<float> numbers;
      for (const int32_t row : selection.keep[h]) {
        left.push_back(positions[h][static_cast<size_t>(row)]);
        numbers.push_back(numbers_[h][static_cast<size_t>(row)]);
      }
      positions[h] = left;
      numbers_[h] = numbers;
    }
  }

  [[nodiscard]] int32_t total() const {
    size_t sum = 0;
    for (const auto& head : positions) sum += head.size();
    return static_cast<int32_t>(sum);
  }

  std::vector<std::vector<int32_t>> positions;

 private:
  [[nodiscard]] std::vector<LayerObservation> observe() {
    std::vector<LayerObservation> heads;
    for (size_t h = 0; h < heads_; ++h) {
      LayerObservation& head = heads.emplace_back();
      rows_.resize(std::max(rows_.size(), positions[h].size()));
      head.keys = head.values = {rows_.data(), 1, positions[h].size(), 1};
      head.queries = {nullptr, 1, 0, 1};
      head.watched = {numbers_[h].data(), 1, numbers_[h].size()};
      head.first_query_head = h;
    }
    return heads;
  }

  Matrix<const float> inputs_;
  const CompressionOptions& options_;
  size_t heads_;
  std::vector<std::vector<float>> numbers_;
  std::vector<float> rows_ = std::vector<float>(1024);
};

void expect_scores(const GoldenCase& golden, CompressionOptions options) {
  options.window = 0;
  Cache cache(golden, options);
  const Matrix<const float> expected = golden.matrix("scores");
  cache.read(0, expected.cols);
  const LayerScores scores = cache.scores();
  float largest = 0.0F;
  for (const float x : golden.floats("scores")) largest = std::max(largest, std::abs(x));
  for (size_t h = 0; h < expected.rows; ++h) {
    for (size_t i = 0; i < expected.cols; ++i) {
      const float e = expected.row(h)[i];
      ASSERT_NEAR(scores.rows().row(h)[i], e, 1e-4F * std::abs(e) + 1e-6F * largest)
          << h << " " << i;
    }
  }
}

/// A budget for all: only the threshold decides. After each token one leaves the window.
void expect_dms(const GoldenCase& golden, CompressionOptions options) {
  const Json& params = golden.params();
  const size_t n = golden.shape("h").at(0);
  const auto steps = params.at("decode_steps").get<size_t>();
  options.window = params.at("window").get<int>();
  options.own["threshold"] = params.at("threshold").get<double>();
  options.allocation = "uniform";
  Cache cache(golden, options);
  cache.read(0, n - steps);
  cache.cut();
  EXPECT_EQ(cache.positions, ragged(golden, "keep"));
  if (!params.at("decoding").get<bool>()) return;
  std::vector<int32_t> totals{cache.total()};
  for (size_t i = n - steps; i < n; ++i) {
    cache.read(i, i + 1);
    cache.cut();
    totals.push_back(cache.total());
  }
  EXPECT_EQ(totals, golden.ints("kept_total_steps"));
  EXPECT_EQ(cache.positions, ragged(golden, "keep_final"));
}

class GoldenKvzapTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(GoldenKvzapTest, ScoresAndThresholdsMatchTheReference) {
  const testing::ForcedSimdTarget forced(GetParam());
  testing::GoldenTally tally;
  const testing::TemporaryFolder folder;
  for (GoldenCase& golden : testing::golden_cases()) {
    const bool dms = golden.name().starts_with("kvzap.dms.");
    if (!dms && !golden.name().starts_with("kvzap.scores.")) continue;
    SCOPED_TRACE(golden.name());
    golden.load();
    CompressionOptions options = default_options("kvzap");
    options.statistics = folder.file(golden.name() + ".json");
    write_weights(golden, options.statistics);
    options.sinks = 0;
    options.budget = 1000;
    expect_scores(golden, options);
    if (dms) expect_dms(golden, options);
    tally.compared(golden.method());
  }
  tally.finish();
}

INSTANTIATE_TEST_SUITE_P(Simd, GoldenKvzapTest, ::testing::ValuesIn(testing::simd_targets()),
                         [](const auto& test) { return testing::simd_target_name(test.param); });

}  // namespace
}  // namespace restkv
