#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "compress/finite.h"
#include "compress/kv_scores.h"
#include "compress/method.h"
#include "compress/reconstruction.h"
#include "compress/window_scores.h"
#include "restkv/error.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options) {
  check_window(options);
  check_pooling(options);
  const double epsilon = own_real(options, "drop_epsilon");
  if (!(epsilon > 0.0 && std::isfinite(epsilon))) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("drop_epsilon is {}; it keeps a denominator away from 0 and must be "
                            "positive (0.000001 is the authors' value)",
                            epsilon));
  }
}

/// Squared change of the window's outputs if a token's attention is dropped and the rest
/// renormalised, averaged over the group and pooled. The window's own columns take part in the
/// pooling.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* trace) {
  const size_t past = before_window(layer, options);
  if (past == 0) return {cache_heads(layer, options), 0};
  require_finite_values(layer, 0);
  const size_t n = layer.keys.rows;
  const size_t group = layer.queries.heads / layer.keys.heads;
  const auto epsilon = static_cast<float>(own_real(options, "drop_epsilon"));
  std::vector<float> errors(layer.keys.heads * n);
  const Matrix<float> means(errors.data(), layer.keys.heads, n);
  std::vector<float> of_group(group * n);
  WindowAttention attention;
  for (size_t kv_head = 0; kv_head < layer.keys.heads; ++kv_head) {
    attention.observe(layer, kv_head, static_cast<size_t>(options.window));
    const Matrix<float> raw(of_group.data(), group, n);
    squared_reconstruction(attention, row_outputs(layer, attention, kv_head),
                           layer.values.head(kv_head), epsilon, raw);
    reduce_group(raw, GroupReduce::kMean, means.row_span(kv_head));
  }
  for (size_t h = 0; trace != nullptr && h < means.rows; ++h) {
    trace->raw.emplace_back(means.row(h), means.row(h) + past);
  }
  CompressionOptions pooled = options;
  pooled.pooling = Pooling::kAverage;
  return score_kv_heads(layer, options, past, [&](size_t kv_head, std::span<float> row) {
    std::vector<float> all(n);
    smooth_row(pooled, std::nullopt, means.row_span(kv_head), all);
    std::copy_n(all.begin(), past, row.begin());
  });
}

}  // namespace

Method dropkv_method() {
  Method method;
  method.name = "dropkv";
  method.summary = "squared change of the window's outputs without a token";
  method.paper = "DropKV, pull request 285 of NVIDIA kvpress";
  method.options = {"window", "kernel", "per_query_head"};
  method.own_options = {
      {"drop_epsilon", "X", "added to 1 - attention where errors are divided by it", 1e-6}};
  method.defaults.method = method.name;
  method.defaults.pooling = Pooling::kAverage;
  method.defaults.kernel = 7;
  method.observed_queries = observe_window;
  method.observed_outputs = observe_window;
  method.check = check;
  method.score = score;
  return method;
}

}  // namespace restkv
