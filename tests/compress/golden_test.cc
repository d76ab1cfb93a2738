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
#include "support/simd.h"

namespace restkv {
namespace {

using testing::GoldenCase;

const std::map<std::string, Pooling> kPoolings = {{"adaptive", Pooling::kAdaptive},
                                                  {"avgpool", Pooling::kAverage},
                                                  {"maxpool", Pooling::kMax},
                                                  {"none", Pooling::kNone}};

/// Why a case cannot be run here, or nothing.
std::optional<std::string> reason_to_skip(const GoldenCase& golden) {
  static const std::vector<std::string> kMethods = {"restkv", "restkv_ablation", "snapkv",
                                                    "streamingllm"};
  if (golden.name().starts_with("e2e.")) return "end to end: needs a model";
  if (std::find(kMethods.begin(), kMethods.end(), golden.method()) == kMethods.end()) {
    return "method " + golden.method() + " is not among the methods tested here";
  }
  if (golden.params().value("use_pyramid", false)) return "pyramid allocation is not there yet";
  return std::nullopt;
}

CompressionOptions options_of(const GoldenCase& golden) {
  static const std::map<std::string, std::string> kNames = {{"restkv", "restkv"},
                                                            {"restkv_ablation", "restkv"},
                                                            {"snapkv", "snapkv"},
                                                            {"streamingllm", "streaming-llm"}};
  static const std::map<std::string, Temporal> kTemporal = {{"ema", Temporal::kEma},
                                                            {"mean", Temporal::kMean},
                                                            {"inv-ema", Temporal::kInverseEma},
                                                            {"none", Temporal::kNewest}};
  static const std::map<std::string, GroupReduce> kReduce = {
      {"mean", GroupReduce::kMean}, {"max", GroupReduce::kMax}, {"sum", GroupReduce::kSum}};

  const auto& params = golden.params();
  CompressionOptions options = default_options(kNames.at(golden.method()));
  options.budget = params.at("capacity");
  options.window = params.at("window");
  options.per_query_head = params.at("granularity") == "query_head";
  if (golden.method() == "streamingllm") {
    options.sinks = options.budget - options.window;
  } else if (golden.method() == "snapkv") {
    options.kernel = params.at("kernel");
    options.pooling = kPoolings.at(params.at("pooling"));
    options.group_reduce = kReduce.at(params.value("agg", "mean"));
  } else if (golden.method() == "restkv_ablation") {
    options.drift_scale = params.at("scale");
    if (params.at("indicator") == "reconstruction") {
      options.temporal = kTemporal.at(params.at("ts"));
      const std::string pooling = params.at("ss");
      options.pooling = kPoolings.at(pooling);
    } else {
      options.indicator =
          params.at("indicator") == "attn" ? Indicator::kAttention : Indicator::kAttentionValue;
      options.pooling = Pooling::kAverage;  // whatever `ss` says
    }
  } else {
    options.kernel = params.at("kernel");
    options.pooling = kPoolings.at(params.at("pooling"));
    options.order = params.at("metric_mode") == "before" ? ReconstructionOrder::kBefore
                                                         : ReconstructionOrder::kAfter;
    options.use_wo = params.at("use_wo");
    options.normalize = params.at("use_norm");
    options.temporal = params.at("use_ema") ? Temporal::kEma : Temporal::kMean;
    options.alpha = params.at("alpha");
    options.tau = params.at("tau");
    options.drift_scale = params.at("scale");
  }
  return options;
}

/// Relative 1e-4 plus 1e-6 of the head's largest magnitude.
void expect_close(const std::vector<std::vector<float>>& actual, Matrix<const float> expected,
                  const char* what) {
  ASSERT_EQ(actual.size(), expected.rows) << what;
  for (size_t h = 0; h < expected.rows; ++h) {
    ASSERT_EQ(actual[h].size(), expected.cols) << what;
    float largest = 0.0F;
    for (const float x : expected.row_span(h)) largest = std::max(largest, std::abs(x));
    size_t wrong = 0;
    for (size_t n = 0; n < expected.cols; ++n) {
      const float e = expected.row(h)[n];
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

void run(GoldenCase& golden) {
  golden.load();
  const CompressionOptions options = options_of(golden);
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
  if (golden.has("raw")) expect_close(trace.raw, golden.matrix("raw"), "raw score");
  if (golden.has("smoothed")) expect_close(trace.smoothed, golden.matrix("smoothed"), "smoothed");
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
    if (const auto reason = reason_to_skip(golden)) {
      skipped[*reason].push_back(golden.name());
      continue;
    }
    SCOPED_TRACE(golden.name());
    run(golden);
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
