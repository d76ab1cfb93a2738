// Leverage scores with the random projections of the recorded runs.

#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "compress/golden_baselines.h"
#include "compress/golden_compare.h"
#include "compress/leverage.h"
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

}  // namespace restkv
