// Compares selections with golden vectors of the reference implementations. RESTKV_GOLDEN_DIR
// chooses another set than tests/data/golden; how to compare stands in that set's README.

#include "support/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "compress/allocation.h"
#include "compress/golden_baselines.h"
#include "restkv/compress.h"
#include "support/golden_options.h"
#include "support/simd.h"

namespace restkv {
namespace {

using testing::GoldenCase;

/// Relative 1e-4 plus 1e-6 of the head's largest magnitude. `factor` is what the reference's scores
/// are a multiple of.
void expect_close(const std::vector<std::vector<float>>& actual, Matrix<const float> expected,
                  const char* what, float factor = 1.0F) {
  ASSERT_EQ(actual.size(), expected.rows) << what;
  for (size_t h = 0; h < expected.rows; ++h) {
    ASSERT_EQ(actual[h].size(), expected.cols) << what;
    float largest = 0.0F;
    for (const float x : expected.row_span(h)) largest = std::max(largest, std::abs(x / factor));
    size_t wrong = 0;
    for (size_t n = 0; n < expected.cols; ++n) {
      const float e = expected.row(h)[n] / factor;
      if (!(std::abs(actual[h][n] - e) <= 1e-4F * std::abs(e) + 1e-6F * largest) && wrong++ == 0) {
        ADD_FAILURE() << what << " of head " << h << ", position " << n << " is " << actual[h][n]
                      << ", expected " << e;
      }
    }
    EXPECT_EQ(wrong, 0U) << what << " of head " << h;
  }
}

/// Kept positions of every head: all alike in number, or ragged.
std::vector<std::vector<int32_t>> expected_keep(const GoldenCase& golden) {
  std::vector<std::vector<int32_t>> keep;
  const bool ragged = golden.has("keep_len");
  auto begin = golden.ints(ragged ? "keep_flat" : "keep").begin();
  const size_t heads = golden.shape(ragged ? "keep_len" : "keep").at(0);
  for (size_t h = 0; h < heads; ++h) {
    const ptrdiff_t count =
        ragged ? golden.ints("keep_len")[h] : static_cast<ptrdiff_t>(golden.shape("keep").at(1));
    keep.emplace_back(begin, begin + count);
    begin += count;
  }
  return keep;
}

/// Kept rows of keys or values, or their sums over the rows, are exact copies.
void expect_kept_rows(GoldenCase& golden, const std::string& tensor, const Selection& selection) {
  const auto rows = golden.heads(tensor);
  size_t flat = 0;
  for (size_t h = 0; h < selection.keep.size(); ++h) {
    const size_t source = h * rows.heads / selection.keep.size();
    std::vector<float> sums(rows.dim, 0.0F);
    for (size_t i = 0; i < selection.keep[h].size(); ++i, ++flat) {
      const float* row = rows.row(source, static_cast<size_t>(selection.keep[h][i]));
      if (golden.has(tensor + "_keep")) {
        const auto expected = golden.heads(tensor + "_keep").head(h).row_span(i);
        ASSERT_TRUE(std::equal(expected.begin(), expected.end(), row)) << tensor << " row " << i;
      }
      if (golden.has(tensor + "_keep_flat")) {
        const auto expected = golden.matrix(tensor + "_keep_flat").row_span(flat);
        ASSERT_TRUE(std::equal(expected.begin(), expected.end(), row)) << tensor << " row " << i;
      }
      for (size_t k = 0; k < rows.dim; ++k) sums[k] += row[k];
    }
    if (golden.has(tensor + "_keep_colsum")) {
      const auto expected = golden.matrix(tensor + "_keep_colsum").row_span(h);
      ASSERT_TRUE(std::equal(expected.begin(), expected.end(), sums.begin()))
          << tensor << " sums of head " << h;
    }
  }
}

/// kvpress scores all positions: what we protect gets there a score above all others.
void expect_press_scores(const std::vector<std::vector<float>>& scores,
                         Matrix<const float> expected) {
  ASSERT_FALSE(scores.empty());
  const auto candidates = static_cast<ptrdiff_t>(scores[0].size());
  for (size_t h = 0; h < expected.rows; ++h) {
    const auto row = expected.row_span(h);
    if (scores[0].size() == row.size()) continue;
    EXPECT_GE(*std::min_element(row.begin() + candidates, row.end()),
              *std::max_element(row.begin(), row.begin() + candidates));
  }
  expected.cols = scores[0].size();
  expect_close(scores, expected, "score");
}

/// Both stages of CriticalKV: the plain scores, and what the others are multiplied with.
void expect_critical_scores(const GoldenCase& golden, const LayerObservation& layer,
                            CompressionOptions options, const SelectionTrace& second) {
  options.critical = false;
  SelectionTrace first;
  (void)select_tokens(layer, options, &first);
  const bool both = golden.has("scores_base");
  expect_press_scores(first.scores, golden.matrix(both ? "scores_base" : "scores"));
  if (both) expect_press_scores(second.scores, golden.matrix("scores"));
  const Matrix<const float> norms = golden.matrix("wo_v_l1");
  const auto epsilon = static_cast<float>(options.critical_epsilon);
  for (size_t h = 0; h < norms.rows; ++h) {
    for (size_t n = 0; n < first.scores[h].size(); ++n) {
      if (second.scores[h][n] == std::numeric_limits<float>::max()) continue;  // first stage
      const float norm = second.scores[h][n] / (first.scores[h][n] + epsilon);
      ASSERT_NEAR(norm, norms.row(h)[n], 1e-4F * norms.row(h)[n]) << h << " " << n;
    }
  }
}

void run(GoldenCase& golden, const CompressionOptions& options) {
  LayerObservation layer;
  layer.queries = golden.heads(golden.has("q_rot") ? "q_rot" : "q");
  layer.keys = golden.heads("k");
  layer.values = golden.heads("v");
  layer.layer = golden.params().value("layer_idx", size_t{0});
  layer.layers = golden.params().value("num_hidden_layers", size_t{1});
  OutputFactor factor;
  if (needs_output_factor(options)) {
    factor = OutputFactor(golden.matrix("wo"), layer.queries.heads, layer.keys.dim);
    layer.output = &factor;
  }
  if (needs_output_weights(options)) layer.output_weights = golden.matrix("wo");
  SelectionTrace trace;
  const Selection selection = select_tokens(layer, options, &trace);

  EXPECT_EQ(selection.keep, expected_keep(golden));
  expect_kept_rows(golden, "k", selection);
  expect_kept_rows(golden, "v", selection);
  for (const char* budgets : {"head_capacity", "head_budgets"}) {
    if (!golden.has(budgets)) continue;
    for (size_t h = 0; h < selection.keep.size(); ++h) {
      const size_t window = golden.has("head_capacity") ? static_cast<size_t>(options.window) : 0;
      EXPECT_EQ(selection.keep[h].size(), static_cast<size_t>(golden.ints(budgets)[h]) + window);
    }
  }
  if (golden.method() == "l2norm") {
    if (golden.has("raw")) expect_close(trace.scores, golden.matrix("raw"), "score", -1.0F);
    return;
  }
  // Scores of StreamingLLM stand for an order only.
  if (options.critical) {
    expect_critical_scores(golden, layer, options, trace);
  } else if (golden.has("scores") && find_method(options.method).score_kind != ScoreKind::kRank) {
    expect_press_scores(trace.scores, golden.matrix("scores"));
  }
  // The authors of SnapKV sum the rows of the window where restkv takes their mean.
  const bool summed = golden.method() == "snapkv" || golden.method() == "pyramidkv";
  const float rows = summed ? static_cast<float>(options.window) : 1.0F;
  if (golden.has("raw")) expect_close(trace.raw, golden.matrix("raw"), "raw score", rows);
  if (golden.has("smoothed")) {
    expect_close(trace.smoothed, golden.matrix("smoothed"), "smoothed", rows);
  }
  if (!golden.has("t")) return;
  ASSERT_EQ(trace.drift.size(), golden.shape("t").at(0));
  for (size_t h = 0; h < trace.drift.size(); ++h) {
    EXPECT_NEAR(trace.drift[h], golden.floats("t")[h], 0.05) << "head " << h;
    EXPECT_EQ(trace.kernel[h], golden.ints("kernel")[h]) << "head " << h;
    EXPECT_EQ(trace.shift[h], golden.ints("shift")[h]) << "head " << h;
    EXPECT_EQ(trace.kernel[h] / 2 - trace.shift[h], golden.ints("pad_left")[h]) << "head " << h;
    EXPECT_EQ(trace.kernel[h] / 2 + trace.shift[h], golden.ints("pad_right")[h]) << "head " << h;
  }
}

/// Tokens kept by one head in each layer, [capacity][length][layer], as PyramidKV and as ReST-KV.
void run_pyramid_budgets(GoldenCase& golden) {
  const auto& params = golden.params();
  const auto layers = params.at("num_hidden_layers").get<size_t>();
  for (const auto& [array, variant] : {std::pair{"kept_pyramidkv", PyramidVariant::kAuthors},
                                       std::pair{"kept_restkv", PyramidVariant::kRestkv}}) {
    auto expected = golden.ints(array).begin();
    for (const size_t capacity : params.at("capacities").get<std::vector<size_t>>()) {
      for (const size_t length : params.at("lengths").get<std::vector<size_t>>()) {
        CompressionOptions options;
        options.pyramid_variant = variant;
        options.pyramid_beta = params.at("beta").get<int>();
        LayerObservation layer;
        layer.keys.rows = length;
        layer.layers = layers;
        const auto window = params.at("window").get<size_t>();
        for (layer.layer = 0; layer.layer < layers; ++layer.layer, ++expected) {
          size_t kept = length;
          if (length >= capacity) {
            const LayerScores scores(1, length - window);
            kept = window + find_allocation("pyramid")
                                .allocate(layer, scores, capacity - window, options)
                                .at(0);
          }
          EXPECT_EQ(kept, static_cast<size_t>(*expected))
              << array << " " << capacity << " of " << length << ", layer " << layer.layer;
        }
      }
    }
  }
}

void run_press_pyramid_budgets(GoldenCase& golden) {
  const auto& params = golden.params();
  const auto layers = params.at("num_hidden_layers").get<size_t>();
  auto expected = golden.ints("kept").begin();
  for (const double ratio : params.at("ratios").get<std::vector<double>>()) {
    for (const size_t length : params.at("lengths").get<std::vector<size_t>>()) {
      for (size_t layer = 0; layer < layers; ++layer, ++expected) {
        EXPECT_EQ(kvpress_pyramid_tokens(static_cast<double>(length) * (1 - ratio), length,
                                         params.at("window").get<size_t>(),
                                         params.at("beta").get<int>(), layer, layers),
                  static_cast<size_t>(*expected))
            << ratio << " of " << length << ", layer " << layer;
      }
    }
  }
}

void run_press_budgets(GoldenCase& golden) {
  auto expected = golden.ints("n_kept").begin();
  for (const double ratio : golden.params().at("ratios").get<std::vector<double>>()) {
    for (const size_t length : golden.params().at("lengths").get<std::vector<size_t>>()) {
      EXPECT_EQ(kvpress_budget(length, ratio), *expected++) << ratio << " of " << length;
    }
  }
}

/// Tables of budgets instead of selections, by their names up to the first dot.
const std::map<std::string, void (*)(GoldenCase&)> kTables = {
    {"pyramid_budgets", run_pyramid_budgets},
    {"kvpress_pyramid_budgets", run_press_pyramid_budgets},
    {"kvpress_n_kept", run_press_budgets}};

class GoldenTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(GoldenTest, SelectionsMatchTheReferences) {
  const testing::ForcedSimdTarget forced(GetParam());
  testing::GoldenTally tally;
  for (GoldenCase& golden : testing::golden_cases()) {
    const std::string family = golden.family();
    if (golden.runs_model() || family == "attention") continue;  // engine_test, attention_test
    if (family.starts_with("kvzip")) continue;                   // golden_repeat_test.cc
    if (family == "kvzap") continue;  // golden_kvzap_test.cc, calibrate_test
    if (is_golden_baseline(golden)) continue;
    SCOPED_TRACE(golden.name());
    golden.load();
    if (const auto table = kTables.find(family); table != kTables.end()) {
      table->second(golden);
      tally.compared(family);
      continue;
    }
    std::string reason;
    if (const auto options = testing::golden_options(golden, reason)) {
      run(golden, *options);
      tally.compared(golden.method());
    } else {
      tally.left_out(golden, reason);
    }
  }
  tally.finish();
}

INSTANTIATE_TEST_SUITE_P(Simd, GoldenTest, ::testing::ValuesIn(testing::simd_targets()),
                         [](const auto& test) { return testing::simd_target_name(test.param); });

}  // namespace
}  // namespace restkv
