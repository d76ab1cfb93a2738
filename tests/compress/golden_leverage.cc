// Leverage scores and compactor with the random projections of the recorded runs.

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "compress/golden_baselines.h"
#include "compress/golden_compare.h"
#include "compress/leverage.h"
#include "compress/methods/compactor.h"
#include "restkv/compress.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

using testing::expect_close;
using testing::GoldenCase;

/// The first `columns` columns of the recorded draws [head][d, all columns].
Sketches recorded_sketches(const GoldenCase& golden, size_t columns) {
  const Heads<const float> draws = golden.heads("gauss");
  Sketches sketches(draws.heads);
  for (size_t h = 0; h < draws.heads; ++h) {
    for (size_t c = 0; c < draws.rows; ++c) {
      sketches[h].insert(sketches[h].end(), draws.row(h, c), draws.row(h, c) + columns);
    }
  }
  return sketches;
}

std::vector<std::vector<float>> rows_of(Matrix<const float> rows) {
  std::vector<std::vector<float>> result;
  for (size_t h = 0; h < rows.rows; ++h) {
    result.emplace_back(rows.row(h), rows.row(h) + rows.cols);
  }
  return result;
}

/// Leverage before it is standardised.
void expect_leverage(const GoldenCase& golden, Heads<const float> keys, const Sketches& sketches) {
  std::vector<std::vector<float>> leverage;
  for (size_t h = 0; h < keys.heads; ++h) {
    const size_t columns = sketches[h].size() / keys.dim;
    leverage.push_back(leverage_scores(keys.head(h), {sketches[h].data(), keys.dim, columns}));
  }
  expect_close(leverage, golden.matrix("leverage"));
}

}  // namespace

void run_leverage(GoldenCase& golden) {
  const Json& arguments = golden.params().at("args");
  const Heads<const float> keys = golden.heads("k_pre");
  const Sketches sketches =
      recorded_sketches(golden, arguments.value("sketch_dimension", size_t{48}));
  expect_leverage(golden, keys, sketches);
  LayerScores scores(keys.heads, keys.rows);
  scores.values = standardized_leverage(keys, sketches);
  expect_close(rows_of(scores.rows()), golden.matrix("scores"), 0, 1e-4F);
  const std::vector<size_t> counts(
      keys.heads, static_cast<size_t>(testing::press_budget(arguments, keys.rows)));
  testing::expect_keeps(golden, select_best(scores, counts, keys.rows));
}

void run_compactor(GoldenCase& golden) {
  const Json& params = golden.params();
  const Json& arguments = params.at("args");
  const bool alone = params.at("scorer") == "NonCausalAttnPress";
  const double ratio = arguments.at("compression_ratio").get<double>();
  CompressionOptions options = default_options("compactor");
  options.sinks = alone ? 0 : arguments.value("sink_size_start", 8);
  options.own["recent"] = alone ? 0 : arguments.value("sink_size_end", 4);
  options.own["chunk_length"] = arguments.at("chunk_size").get<int>();
  options.own["blending"] = alone ? 0.0 : arguments.value("blending", ratio);
  LayerObservation layer;
  layer.queries = golden.heads("q");
  layer.keys = golden.heads("k");
  layer.values = golden.heads("v");
  layer.unrotated_keys = golden.heads("k_pre");
  const size_t n = layer.keys.rows;
  options.budget = testing::press_budget(arguments, n);
  std::vector<float> watched(layer.queries.heads * n, std::numeric_limits<float>::quiet_NaN());
  const Matrix<float> columns(watched.data(), layer.queries.heads, n);
  find_method("compactor")
      .watch({.queries = layer.queries,
              .own_keys = layer.keys,
              .own_values = layer.values,
              .keys = layer.keys,
              .values = layer.values,
              .begin = 0,
              .end = n},
             options, columns);
  layer.watched = columns;

  const auto first = static_cast<size_t>(options.sinks);
  const size_t end = n - static_cast<size_t>(own_whole(options, "recent"));
  const size_t count = end - first;
  std::vector<float> noncausal = noncausal_scores(layer, first, end);
  expect_close(rows_of({noncausal.data(), layer.keys.heads, count}), golden.matrix("noncausal"));
  standardize(noncausal);
  if (golden.has("noncausal_z")) {
    expect_close(rows_of({noncausal.data(), layer.keys.heads, count}), golden.matrix("noncausal_z"),
                 0, 1e-4F);
  }
  const Sketches sketches =
      recorded_sketches(golden, arguments.value("sketch_dimension", size_t{48}));
  if (golden.has("leverage")) {
    expect_leverage(golden, layer.unrotated_keys.slice_rows(first, count), sketches);
  }
  const LayerScores scores = compactor_scores(layer, options, sketches);
  // The reference gives protected positions the largest score; here sinks have more.
  const auto competing = [&](Matrix<const float> all) {
    return Matrix<const float>(all.data + first, all.rows, count, all.stride);
  };
  expect_close(rows_of(competing(scores.rows())), competing(golden.matrix("scores")), 0, 1e-4F);
  testing::expect_keeps(golden, select_best(scores, allocate_budget(layer, scores, options), n));
}

}  // namespace restkv
