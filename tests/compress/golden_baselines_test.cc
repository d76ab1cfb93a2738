// Compares h2o, tova, lacache and the scorers of NVIDIA kvpress with golden vectors; see
// golden_test.cc for the methods that score from the observation window alone.

#include "compress/golden_baselines.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "compress/expected_queries.h"
#include "compress/golden_compare.h"
#include "compress/ladder.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/compress.h"
#include "support/golden.h"
#include "support/golden_options.h"
#include "support/simd.h"

namespace restkv {
namespace {

using testing::expect_close;
using testing::expect_keeps;
using testing::GoldenCase;
using testing::kept_rows;

/// What each position receives from all queries, in blocks.
AlignedVector<float> column_sums(const LayerObservation& layer) {
  constexpr size_t kBlock = 100;
  const size_t n = layer.keys.rows;
  const size_t heads = layer.queries.heads;
  AlignedVector<float> sums(heads * n), out(heads * kBlock * layer.keys.dim), lse(heads * kBlock);
  std::fill(sums.begin(), sums.end(), 0.0F);
  for (size_t first = 0; first < n; first += kBlock) {
    const size_t rows = std::min(kBlock, n - first);
    const auto queries = layer.queries.slice_rows(first, rows);
    const Matrix<float> denominators(lse.data(), heads, rows);
    prefill_attention(queries, layer.keys, layer.values, first, {},
                      {out.data(), heads, rows, layer.keys.dim}, denominators);
    attention_sums(queries, layer.keys, first, {}, denominators, {sums.data(), heads, n});
  }
  return sums;
}

void run_h2o(GoldenCase& golden) {
  std::string reason;
  const CompressionOptions options = testing::golden_options(golden, reason).value();
  LayerObservation layer;
  layer.queries = golden.heads("q");
  layer.keys = golden.heads("k");
  layer.values = golden.heads("v");
  AlignedVector<float> sums;
  if (needs_attention_sums(options)) {
    sums = column_sums(layer);
    layer.attention_sums = {sums.data(), layer.queries.heads, layer.keys.rows};
  }
  SelectionTrace trace;
  expect_keeps(golden, select_tokens(layer, options, &trace));
  expect_close(trace.raw, golden.matrix("raw"));
}

/// Rows [kv_heads, positions.size(), d] of a tensor.
std::vector<float> gather(Heads<const float> rows, const std::vector<int32_t>& positions) {
  std::vector<float> out;
  for (size_t h = 0; h < rows.heads; ++h) {
    for (const int32_t p : positions) {
      const float* row = rows.row(h, static_cast<size_t>(p));
      out.insert(out.end(), row, row + rows.dim);
    }
  }
  return out;
}

void run_tova(GoldenCase& golden) {
  CompressionOptions options = default_options("tova");
  options.budget = golden.params().at("capacity").get<int>();
  const size_t steps = golden.params().value("decode_steps", size_t{0});
  const auto q = golden.heads("q");
  const auto k = golden.heads("k");
  const auto v = golden.heads("v");
  const size_t prompt = k.rows - steps;
  LayerObservation layer;
  layer.queries = q.slice_rows(q.rows - steps - 1, 1);
  layer.keys = k.slice_rows(0, prompt);
  layer.values = v.slice_rows(0, prompt);
  SelectionTrace trace;
  const Selection selection = select_tokens(layer, options, &trace);
  expect_keeps(golden, selection);
  expect_close(trace.raw, golden.matrix("raw"));

  // Each step adds its token, attends to what there is, and drops one.
  std::vector<int32_t> cache = selection.keep[0];
  for (size_t step = 0; step < steps; ++step) {
    cache.push_back(static_cast<int32_t>(prompt + step));
    const auto keys = gather(k, cache);
    const auto values = gather(v, cache);
    layer.queries = q.slice_rows(q.rows - steps + step, 1);
    layer.keys = {keys.data(), k.heads, cache.size(), k.dim};
    layer.values = {values.data(), v.heads, cache.size(), v.dim};
    std::vector<float> out(q.heads * v.dim);
    prefill_attention(layer.queries, layer.keys, layer.values, cache.size() - 1, {},
                      {out.data(), q.heads, 1, v.dim});
    const auto expected = golden.heads("out_steps").head(step);
    for (size_t i = 0; i < out.size(); ++i) {
      ASSERT_NEAR(out[i], expected.row(i / v.dim)[i % v.dim], 1e-5) << "step " << step;
    }
    const auto best = select_tokens(layer, options).keep[0];
    std::vector<int32_t> left;
    for (const int32_t i : best) left.push_back(cache[static_cast<size_t>(i)]);
    cache = left;
    EXPECT_EQ(cache, kept_rows(golden, "keep_steps").at(step)) << "step " << step;
  }
}

void run_lacache(GoldenCase& golden) {
  const Json& params = golden.params();
  const LadderPlanner::Shape shape{.layers = params.at("layers").get<size_t>(),
                                   .size = params.at("cache_size").get<size_t>(),
                                   .sinks = params.at("start_size").get<size_t>(),
                                   .span = params.at("span").get<size_t>(),
                                   .overlap = params.at("overlap").get<size_t>()};
  const auto n = params.at("n").get<size_t>();
  const auto steps = params.at("decode_steps").get<size_t>();
  LadderPlanner planner(shape);
  std::vector<std::vector<int32_t>> caches(shape.layers, std::vector<int32_t>(n));
  for (auto& cache : caches) std::iota(cache.begin(), cache.end(), 0);
  for (size_t step = 0; step <= steps; ++step) {
    if (step > 0) {
      for (auto& cache : caches) cache.push_back(static_cast<int32_t>(n + step - 1));
    }
    for (const LadderCut& cut : planner.compact(caches[0].size())) {
      for (size_t layer = 0; layer < caches.size(); ++layer) {
        caches[layer] = cut.apply(layer, caches[layer]);
      }
    }
    EXPECT_EQ(planner.cursor(), static_cast<size_t>(golden.ints("cursor_steps")[step])) << step;
    EXPECT_EQ(caches[0].size(), static_cast<size_t>(golden.ints("len_steps")[step])) << step;
    if (step == 0) {
      EXPECT_EQ(caches, kept_rows(golden, "keep"));
    }
  }
  if (golden.has("keep_final")) {
    EXPECT_EQ(caches, kept_rows(golden, "keep_final"));
  }
  EXPECT_EQ(planner.size(), static_cast<size_t>(golden.ints("cache_size_after")[0]));

  // The method keeps the same positions, in ascending order and once each. Where the authors'
  // ladder passes the budget, the oldest behind the sinks go.
  CompressionOptions options = default_options("lacache");
  options.budget = static_cast<int>(shape.size);
  options.sinks = static_cast<int>(shape.sinks);
  options.own["ladder_span"] = static_cast<int>(shape.span);
  options.own["ladder_overlap"] = static_cast<int>(shape.overlap);
  const std::vector<float> nothing(n);
  LayerObservation layer;
  layer.layers = shape.layers;
  layer.keys = layer.values = {nothing.data(), 1, n, 1};
  const auto expected = kept_rows(golden, "keep");
  for (layer.layer = 0; layer.layer < shape.layers; ++layer.layer) {
    std::vector<int32_t> once = expected[layer.layer];
    std::sort(once.begin(), once.end());
    once.erase(std::unique(once.begin(), once.end()), once.end());
    const auto oldest = once.begin() + static_cast<ptrdiff_t>(std::min(once.size(), shape.sinks));
    const size_t passed = once.size() - std::min(once.size(), shape.size);
    once.erase(oldest, oldest + static_cast<ptrdiff_t>(passed));
    EXPECT_EQ(select_tokens(layer, options).keep.at(0), once) << "layer " << layer.layer;
  }
}

/// Average rotation of positions [first, first + count), pairs (i, i + d/2).
MeanRotation mean_rotation(size_t dim, double base, size_t first, size_t count) {
  MeanRotation rotation;
  for (size_t i = 0; i < dim / 2; ++i) {
    const double frequency = std::pow(base, -2.0 * double(i) / double(dim));
    double cosine = 0;
    double sine = 0;
    for (size_t p = first; p < first + count; ++p) {
      cosine += std::cos(double(p) * frequency) / double(count);
      sine += std::sin(double(p) * frequency) / double(count);
    }
    rotation.cosine.push_back(static_cast<float>(cosine));
    rotation.sine.push_back(static_cast<float>(sine));
  }
  return rotation;
}

/// 1e-5 of the largest.
void expect_moments(const std::vector<float>& actual, const std::vector<float>& expected,
                    size_t head) {
  float largest = 0;
  for (const float x : expected) largest = std::max(largest, std::abs(x));
  for (size_t i = 0; i < actual.size(); ++i) {
    ASSERT_NEAR(actual[i], expected[head * actual.size() + i], 1e-5F * largest) << "head " << head;
  }
}

using SetOption = std::function<void(CompressionOptions&, const Json&)>;
struct Press {
  std::string method;
  std::map<std::string, SetOption> arguments;
  SetOption defaults = nullptr;  ///< Of kvpress, where they differ from the authors'.
};

const std::map<std::string, Press>& presses() {
  static const SetOption kSinks = [](CompressionOptions& o, const Json& x) {
    o.sinks = x.get<int>();
  };
  static const std::map<std::string, std::string> kLeverages = {
      {"key", "key"}, {"value", "value"}, {"kv_avg", "mean"}, {"kv_product", "product"}};
  static const std::map<std::string, Press> kPresses = {
      {"TOVAPress", {"tova", {}, [](CompressionOptions& o, const Json&) { o.window = 1; }}},
      {"ObservedAttentionPress", {"observed-attention", {}}},
      {"KeyDiffPress", {"keydiff", {}}},
      {"LagKVPress",
       {"lagkv",
        {{"n_sink", kSinks},
         {"lag_size", [](CompressionOptions& o, const Json& x) { o.own["lag"] = x.get<int>(); }},
         {"cross_scoring",
          [](CompressionOptions& o, const Json& x) { o.own["cross_scoring"] = x.get<bool>(); }}}}},
      {"ExpectedAttentionPress",
       {"expected-attention",
        {{"n_sink", kSinks},
         {"n_future_positions",
          [](CompressionOptions& o, const Json& x) { o.own["future"] = x.get<int>(); }},
         {"use_covariance",
          [](CompressionOptions& o, const Json& x) { o.own["use_covariance"] = x.get<bool>(); }},
         {"use_vnorm",
          [](CompressionOptions& o, const Json& x) { o.own["use_value_norm"] = x.get<bool>(); }},
         {"epsilon",
          [](CompressionOptions& o, const Json& x) { o.own["epsilon"] = x.get<double>(); }}}}},
      {"CURPress",
       {"cur",
        {{"num_sinks", kSinks},
         {"leverage_type", [](CompressionOptions& o,
                              const Json& x) { o.own["leverage"] = kLeverages.at(x.text()); }},
         {"local_window_size",
          [](CompressionOptions& o, const Json& x) { o.own["local_window"] = x.get<int>(); }},
         {"use_local_approximation", [](CompressionOptions& o, const Json& x) {
            if (!x.get<bool>()) o.own["local_window"] = 0;
          }}}}}};
  return kPresses;
}

/// The press of a case, or null; a block wrapper is the option block_size of what it wraps.
const Press* find_press(const GoldenCase& golden, const Json*& arguments, int& block_size) {
  arguments = &golden.params().at("args");
  auto name = golden.params().at("press").get<std::string>();
  block_size = 0;
  if (name == "BlockPress") {
    block_size = arguments->at("block_size").get<int>();
    const Json& inner = arguments->at("press");
    name = inner.at("press").text();
    arguments = &inner.at("args");
  }
  const auto it = presses().find(name);
  return it != presses().end() ? &it->second : nullptr;
}

void run_kvpress(GoldenCase& golden) {
  const Json* arguments = nullptr;
  CompressionOptions options;
  int block_size = 0;
  const Press& press = *find_press(golden, arguments, block_size);
  options = default_options(press.method);
  options.block_size = block_size;
  if (press.defaults) press.defaults(options, {});
  LayerObservation layer;
  layer.queries = golden.heads("q_rot");
  layer.keys = golden.heads("k");
  layer.values = golden.heads("v");
  const size_t n = layer.keys.rows;
  for (const auto& [name, value] : arguments->items()) {
    if (name == "compression_ratio") {
      options.budget = std::max(1, static_cast<int>(double(n) * (1 - value.get<double>())));
    } else {
      press.arguments.at(name)(options, value);
    }
  }
  AlignedVector<float> sums;
  if (needs_attention_sums(options)) {
    sums = column_sums(layer);
    layer.attention_sums = {sums.data(), layer.queries.heads, n};
  }
  QueryStatistics statistics;
  MeanRotation rotation;
  if (needs_query_statistics(options)) {
    const auto queries = golden.heads("q_pre");
    const auto sinks = static_cast<size_t>(options.sinks);
    statistics = QueryStatistics(queries.heads, queries.dim);
    for (size_t first = sinks; first < n; first += 64) {
      statistics.add(queries.slice_rows(first, std::min<size_t>(64, n - first)));
    }
    rotation = mean_rotation(queries.dim, golden.params().at("rope_theta").get<double>(), n,
                             future_positions(options));
    layer.query_statistics = &statistics;
    layer.future_rotation = &rotation;
    for (size_t h = 0; h < queries.heads; ++h) {
      const ExpectedQueries expected = expected_queries(statistics, h, rotation);
      if (golden.has("mu")) expect_moments(expected.mean, golden.floats("mu"), h);
      if (golden.has("cov")) expect_moments(expected.covariance, golden.floats("cov"), h);
    }
  }
  SelectionTrace trace;
  expect_keeps(golden, select_tokens(layer, options, &trace));
  if (golden.has("scores")) expect_close(trace.scores, golden.matrix("scores"));
}

using Comparison = void (*)(GoldenCase&);

/// What compares the case; null: nothing here.
Comparison run_of(const GoldenCase& golden) {
  static const std::map<std::string, Comparison> kRuns = {
      {"h2o", run_h2o},
      {"tova", run_tova},
      {"lacache", run_lacache},
      {"cake", run_cake},
      {"chunkkv", run_chunkkv},
      {"finch", run_finch},
      {"dropkv", run_dropkv},
      {"rkv", run_rkv},
      {"compactor", run_compactor},
      {"leverage", run_leverage},
      {"merging", run_merging},
      {"triattention", run_triattention},
      {"refit", run_refit},
      {"attention_matching", run_attention_matching}};
  if (golden.family() == "kvpress" && golden.params().contains("press")) {
    const Json* arguments = nullptr;
    int block_size = 0;
    return find_press(golden, arguments, block_size) != nullptr ? run_kvpress : nullptr;
  }
  // CaM merges by chance while tokens are decoded, which is not offered.
  if (golden.runs_model() || golden.name().starts_with("merging.cam")) return nullptr;
  const auto it = kRuns.find(golden.family());
  return it != kRuns.end() ? it->second : nullptr;
}

class GoldenBaselines : public ::testing::TestWithParam<int64_t> {};

TEST_P(GoldenBaselines, MatchTheReferences) {
  const testing::ForcedSimdTarget forced(GetParam());
  testing::GoldenTally tally;
  for (GoldenCase& golden : testing::golden_cases()) {
    const Comparison run = run_of(golden);
    if (run == nullptr) continue;
    SCOPED_TRACE(golden.name());
    golden.load();
    run(golden);
    tally.compared(golden.method());
  }
  tally.finish();
}

INSTANTIATE_TEST_SUITE_P(Simd, GoldenBaselines, ::testing::ValuesIn(testing::simd_targets()),
                         [](const auto& test) { return testing::simd_target_name(test.param); });

}  // namespace

bool is_golden_baseline(const GoldenCase& golden) { return run_of(golden) != nullptr; }

}  // namespace restkv
