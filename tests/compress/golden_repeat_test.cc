// Compares the scores of a repeat pass, and budgets over all layers, with golden vectors; the pass
// through a whole model is compared in engine_test.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "restkv/compress.h"
#include "restkv/stages.h"
#include "support/golden.h"
#include "support/simd.h"

namespace restkv {
namespace {

using testing::GoldenCase;

/// Feeds the repeating rows in blocks of `rows` rows.
void run_array(const GoldenCase& golden, size_t rows) {
  const Json& params = golden.params();
  const auto start = params.at("start").get<size_t>();
  const auto end = params.at("end").get<size_t>();
  CompressionOptions options =
      default_options(params.at("plus").get<bool>() ? "kvzip-plus" : "kvzip");
  options.sinks = params.at("n_sink").get<int>();
  const auto q = golden.heads("q");
  const auto k = golden.heads("k");
  const auto v = golden.heads("v");
  const size_t n = k.rows - q.rows;
  const OutputFactor factor(golden.matrix("wo"), q.heads, v.dim);
  std::vector<float> numbers(q.heads * n, std::numeric_limits<float>::quiet_NaN());
  const Matrix<float> watched(numbers.data(), q.heads, n);
  const Method& method = find_method(options.method);
  for (size_t first = 0; first < q.rows; first += rows) {
    const size_t count = std::min(rows, q.rows - first);
    method.watch({.queries = q.slice_rows(first, count),
                  .inputs = golden.matrix("h").slice(first, count),
                  .own_keys = k.slice_rows(n, first + count),
                  .own_values = v.slice_rows(n, first + count),
                  .keys = k.slice_rows(0, n),
                  .values = v.slice_rows(0, n),
                  .begin = start,
                  .end = end},
                 options, watched);
  }
  LayerObservation layer;
  layer.queries = q;
  layer.keys = k.slice_rows(0, n);
  layer.values = v.slice_rows(0, n);
  layer.watched = watched;
  layer.output = &factor;
  options.sinks = 0;  // their scores, too, are those of their attention
  const LayerScores scores = score_tokens(layer, options);
  const Matrix<const float> expected = golden.matrix("scores");
  ASSERT_EQ(scores.heads, expected.rows);
  for (size_t h = 0; h < expected.rows; ++h) {
    const auto row = expected.row_span(h);
    const float largest = *std::ranges::max_element(row);
    for (size_t i = 0; i < row.size(); ++i) {
      ASSERT_NEAR(scores.rows().row(h)[start + i], row[i], 1e-4F * row[i] + 1e-6F * largest)
          << "head " << h << ", position " << start + i;
    }
  }
}

std::vector<std::vector<int32_t>> expected_keep(const GoldenCase& golden) {
  std::vector<std::vector<int32_t>> keep;
  auto next = golden.ints("keep_flat").begin();
  for (const int32_t count : golden.ints("keep_len")) {
    keep.emplace_back(next, next + count);
    next += count;
  }
  return keep;
}

/// Given scores of all layers. The reference keeps what is above the last score within the budget:
/// one entry less.
void run_select(const GoldenCase& golden) {
  const auto& shape = golden.shape("pair_scores");
  const size_t n = shape.at(2);
  const bool uniform = golden.params().at("uniform").get<bool>();
  const auto share =
      static_cast<size_t>(static_cast<double>(n) * golden.params().at("ratio").get<double>());
  std::vector<LayerCandidates> layers;
  const float* next = golden.floats("pair_scores").data();
  for (size_t l = 0; l < shape.at(0); ++l) {
    LayerCandidates& layer = layers.emplace_back();
    layer.share = share;
    for (size_t h = 0; h < shape.at(1); ++h, next += n) layer.scores.emplace_back(next, next + n);
  }
  const auto counts = find_allocation("global").reallocate(layers, layers.size(), {});
  const auto expected = expected_keep(golden);
  size_t missing = 0;
  for (size_t l = 0; l < layers.size(); ++l) {
    for (size_t h = 0; h < layers[l].scores.size(); ++h) {
      LayerScores scores(1, n);
      std::ranges::copy(layers[l].scores[h], scores.values.begin());
      const size_t count = uniform ? share : counts[l][h];
      const std::vector<int32_t> kept = select_best(scores, {&count, 1}, n).keep[0];
      const auto& theirs = expected[l * layers[l].scores.size() + h];
      EXPECT_TRUE(std::ranges::includes(kept, theirs)) << "layer " << l << ", head " << h;
      missing += kept.size() - theirs.size();
    }
  }
  EXPECT_EQ(missing, uniform ? 0U : 1U);
}

class GoldenRepeatTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(GoldenRepeatTest, ScoresAndBudgetsMatchTheReferences) {
  const testing::ForcedSimdTarget forced(GetParam());
  testing::GoldenTally tally;
  for (GoldenCase& golden : testing::golden_cases()) {
    const std::string family = golden.family();
    if (family != "kvzip" && family != "kvzip_plus") continue;
    const bool array = golden.name().starts_with(family + ".array.");
    if (!array && !golden.name().starts_with(family + ".select.")) continue;
    SCOPED_TRACE(golden.name());
    golden.load();
    if (array) {
      for (const size_t rows : {40, 16, 1}) run_array(golden, rows);
    } else {
      run_select(golden);
    }
    tally.compared(golden.method());
  }
  tally.finish();
}

INSTANTIATE_TEST_SUITE_P(Simd, GoldenRepeatTest, ::testing::ValuesIn(testing::simd_targets()),
                         [](const auto& test) { return testing::simd_target_name(test.param); });

}  // namespace
}  // namespace restkv
