// Compares selections with golden vectors of the reference implementations. RESTKV_GOLDEN_DIR
// chooses another set than tests/data/golden; how to compare stands in that set's README.

#include "support/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <optional>
#include <string>

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

/// Kept rows of keys or values, or their sums over the rows, are exact copies.
void expect_kept_rows(GoldenCase& golden, const std::string& tensor, const Selection& selection) {
  const auto rows = golden.heads(tensor);
  for (size_t h = 0; h < selection.keep.size(); ++h) {
    const size_t source = h * rows.heads / selection.keep.size();
    std::vector<float> sums(rows.dim, 0.0F);
    for (size_t i = 0; i < selection.keep[h].size(); ++i) {
      const float* row = rows.row(source, static_cast<size_t>(selection.keep[h][i]));
      if (golden.has(tensor + "_keep")) {
        const auto expected = golden.heads(tensor + "_keep").head(h).row_span(i);
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

void run(GoldenCase& golden, const CompressionOptions& options) {
  golden.load();
  LayerObservation layer;
  layer.queries = golden.heads("q");
  layer.keys = golden.heads("k");
  layer.values = golden.heads("v");
  OutputFactor factor;
  if (needs_output_factor(options)) {
    factor = OutputFactor(golden.matrix("wo"), layer.queries.heads, layer.keys.dim);
    layer.output = &factor;
  }
  SelectionTrace trace;
  const Selection selection = select_tokens(layer, options, &trace);

  const auto& keep = golden.ints("keep");
  const size_t kept = golden.shape("keep").at(1);
  ASSERT_EQ(selection.keep.size(), golden.shape("keep").at(0));
  for (size_t h = 0; h < selection.keep.size(); ++h) {
    const auto begin = keep.begin() + static_cast<ptrdiff_t>(h * kept);
    EXPECT_EQ(selection.keep[h], std::vector<int32_t>(begin, begin + static_cast<ptrdiff_t>(kept)))
        << "kept positions of head " << h;
  }
  expect_kept_rows(golden, "k", selection);
  expect_kept_rows(golden, "v", selection);
  // SnapKV's authors sum the rows of the window where restkv takes their mean.
  const float rows = golden.method() == "snapkv" ? static_cast<float>(options.window) : 1.0F;
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

class GoldenTest : public ::testing::TestWithParam<int64_t> {};

TEST_P(GoldenTest, SelectionsMatchTheReferences) {
  const testing::ForcedSimdTarget forced(GetParam());
  std::map<std::string, size_t> ran;
  std::map<std::string, std::vector<std::string>> skipped;
  for (GoldenCase& golden : testing::golden_cases()) {
    std::string reason;
    const bool elsewhere = golden.name().starts_with("e2e.") ||
                           golden.name().starts_with("attention.");
    const auto options = elsewhere ? std::nullopt : testing::golden_options(golden, reason);
    if (!options) {
      skipped[elsewhere ? "run by the tests of attention and engine" : reason].push_back(
          golden.name());
      continue;
    }
    SCOPED_TRACE(golden.name());
    run(golden, *options);
    ++ran[golden.method()];
  }
  size_t total = 0;
  for (const auto& [method, count] : ran) {
    std::printf("golden: ran %zu cases of %s\n", count, method.c_str());
    total += count;
  }
  for (const auto& [reason, names] : skipped) {
    std::printf("golden: SKIPPED %zu cases (%s):\n", names.size(), reason.c_str());
    for (const auto& name : names) std::printf("golden:   %s\n", name.c_str());
  }
  EXPECT_GT(total, 0U) << "no case of " << testing::golden_directory() << " was run";
}

INSTANTIATE_TEST_SUITE_P(Simd, GoldenTest, ::testing::ValuesIn(testing::simd_targets()),
                         [](const auto& test) { return testing::simd_target_name(test.param); });

}  // namespace
}  // namespace restkv
