// Values of evicted tokens folded into kept ones.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "compress/golden_baselines.h"
#include "compress/golden_compare.h"
#include "compress/merging.h"
#include "restkv/compress.h"

namespace restkv {

void run_merging(testing::GoldenCase& golden) {
  const Json& params = golden.params();
  const Json& inner = params.at("inner");
  LayerObservation layer;
  layer.queries = golden.heads("q");
  layer.keys = golden.heads("k");
  layer.values = golden.heads("v");
  CompressionOptions options =
      default_options(inner.at("press") == "KnormPress" ? "knorm" : "snapkv");
  options.window = inner.at("args").value("window_size", 64);
  options.budget = testing::press_budget(inner.at("args"), layer.keys.rows);
  options.merge = true;
  options.merge_threshold = params.at("similarity_threshold").get<double>();
  options.merge_fraction = params.at("merge_fraction").get<double>();
  const Selection selection = select_tokens(layer, options);
  testing::expect_keeps(golden, selection);

  const auto merges = find_merges(layer.keys, selection, options);
  auto expected = golden.ints("merge_target").begin();
  for (const std::vector<Merge>& of_head : merges) {
    for (const Merge& merge : of_head) EXPECT_EQ(merge.target, *expected++) << merge.evicted;
  }
  std::vector<float> storage = golden.floats("v");
  const Heads<float> values(storage.data(), layer.values.heads, layer.values.rows,
                            layer.values.dim);
  merge_values(merges, values);
  const std::vector<float>& all = golden.floats("v_keep");
  const float largest = std::abs(
      *std::ranges::max_element(all, [](float a, float b) { return std::abs(a) < std::abs(b); }));
  for (size_t h = 0; h < values.heads; ++h) {
    for (size_t i = 0; i < selection.keep[h].size(); ++i) {
      const float* row = values.row(h, static_cast<size_t>(selection.keep[h][i]));
      const auto reference = golden.heads("v_keep").head(h).row_span(i);
      for (size_t c = 0; c < values.dim; ++c) ASSERT_NEAR(row[c], reference[c], 2e-5F * largest);
    }
  }
}

}  // namespace restkv
