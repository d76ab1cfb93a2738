#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>
#include <set>
#include <vector>

#include "compress/kv_scores.h"
#include "compress/ladder.h"
#include "compress/method.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options) {
  check_protected(options, "sinks", options.sinks);
  const int span = own_whole(options, "ladder_span");
  const int overlap = own_whole(options, "ladder_overlap");
  if (span < 0 || overlap < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("ladder_span is {} and ladder_overlap {}; they must be 0 or more", span,
                            overlap));
  }
  if (options.allocation != "uniform") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("lacache lays its ladder over layers of one size; allocation must be "
                            "uniform, not {}",
                            options.allocation));
  }
}

LadderPlanner::Shape ladder(const CompressionOptions& options, size_t layers) {
  const auto span = static_cast<size_t>(own_whole(options, "ladder_span"));
  return {.layers = layers,
          .size = static_cast<size_t>(options.budget),
          .sinks = static_cast<size_t>(options.sinks),
          .span = span > 0 ? span : layers / 2,
          .overlap = static_cast<size_t>(own_whole(options, "ladder_overlap"))};
}

void check_shape(const CompressionOptions& options, const CacheShape& shape) {
  if (shape.layers == 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("lacache keeps other tokens in every layer, but only 1 of {} layers of "
                            "the model has a cache to compress; choose another method",
                            1 + shape.window_layers));
  }
  (void)LadderPlanner(ladder(options, shape.layers));
}

/// The cursor after removing repeated entries and, above the budget, the oldest ones after the
/// sinks.
size_t cursor_among_kept(const std::vector<int32_t>& entries, size_t cursor,
                         const CompressionOptions& options) {
  const auto end = entries.begin() + static_cast<ptrdiff_t>(std::min(cursor, entries.size()));
  const size_t before = std::set<int32_t>(entries.begin(), end).size();
  const size_t all = std::set<int32_t>(entries.begin(), entries.end()).size();
  const size_t gone = all - std::min(all, static_cast<size_t>(options.budget));
  return std::max(before - std::min(before, gone), static_cast<size_t>(options.sinks));
}

/// Rows that the ladder keeps in this layer, continuing from its cursor. Repeated entries (possible
/// if rungs overlap) are dropped, because attention would count such a row twice.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  const size_t n = layer.keys.rows;
  LadderPlanner::Shape shape = ladder(options, layer.layers);
  // The ladder continues at the row where the last selection of this layer ended.
  if (layer.state != nullptr) {
    shape.cursor = layer.state->empty() ? 0 : std::min<size_t>(layer.state->front(), n);
  }
  LadderPlanner planner(shape);
  std::vector<int32_t> entries(n);
  std::iota(entries.begin(), entries.end(), 0);
  const std::vector<LadderCut> cuts = planner.compact(n);
  for (const LadderCut& cut : cuts) entries = cut.apply(layer.layer, entries);
  if (layer.state != nullptr && !cuts.empty()) {
    *layer.state = {cursor_among_kept(entries, planner.cursor(), options)};
  }
  return score_kv_heads(layer, options, n, [&](size_t, std::span<float> row) {
    std::fill(row.begin(), row.end(), -std::numeric_limits<float>::infinity());
    // The authors' ladder may exceed the budget by half a rung; the oldest entries are then
    // dropped.
    for (const int32_t position : entries) {
      row[static_cast<size_t>(position)] = position < options.sinks
                                               ? std::numeric_limits<float>::infinity()
                                               : static_cast<float>(position);
    }
  });
}

}  // namespace

Method lacache_method() {
  Method method;
  method.name = "lacache";
  method.summary = "a ladder: every group of layers keeps different positions";
  method.paper =
      "LaCache: Ladder-Shaped KV Caching for Efficient Long-Context Modeling of Large Language "
      "Models, arXiv 2507.14204";
  method.options = {"sinks", "per_query_head"};
  method.own_options = {
      {"ladder_span", "N", "layers that keep the same token; 0: half of them", 0},
      {"ladder_overlap", "N", "layers that neighbouring rungs of the ladder share", 0}};
  method.defaults.method = method.name;
  method.score_kind = ScoreKind::kRank;
  method.check = check;
  method.check_shape = check_shape;
  method.score = score;
  return method;
}

}  // namespace restkv
