#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "compress/finite.h"
#include "compress/kv_scores.h"
#include "compress/method.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options) {
  check_protected(options, "sinks", options.sinks);
  if (const int lag = own_whole(options, "lag"); lag < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("lag is {}; a partition needs at least 1 token (128 is usual)", lag));
  }
}

/// Adds to `scores` the softmax over a partition's tokens of the standard deviation of their
/// channels, each scaled to its range in the next partition.
void add_partition(Matrix<const float> rows, Matrix<const float> next, std::span<float> scores) {
  std::vector<float> low(rows.cols), inverse_range(rows.cols);
  for (size_t c = 0; c < rows.cols; ++c) {
    float smallest = next.row(0)[c];
    float largest = smallest;
    for (size_t i = 1; i < next.rows; ++i) {
      smallest = std::min(smallest, next.row(i)[c]);
      largest = std::max(largest, next.row(i)[c]);
    }
    low[c] = smallest;
    inverse_range[c] = largest > smallest ? 1.0F / (largest - smallest) : 0.0F;
  }
  std::vector<float> deviations(rows.rows);
  for (size_t i = 0; i < rows.rows; ++i) {
    double sum = 0.0;
    double squares = 0.0;
    for (size_t c = 0; c < rows.cols; ++c) {
      const auto x = static_cast<double>((rows.row(i)[c] - low[c]) * inverse_range[c]);
      sum += x;
      squares += x * x;
    }
    const auto count = static_cast<double>(rows.cols);
    const double variance = (squares - sum * sum / count) / std::max(1.0, count - 1);
    deviations[i] = static_cast<float>(std::sqrt(std::max(0.0, variance)));
  }
  softmax(deviations);
  for (size_t i = 0; i < rows.rows; ++i) scores[i] += deviations[i];
}

/// Replaces every value by its rank divided by the number of values.
void rank(std::span<float> values) {
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return values[a] < values[b]; });
  for (size_t i = 0; i < order.size(); ++i) {
    values[order[i]] = static_cast<float>(i) / static_cast<float>(order.size());
  }
}

LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  const size_t n = layer.keys.rows;
  const auto sinks = static_cast<size_t>(options.sinks);
  const auto lag = static_cast<size_t>(own_whole(options, "lag"));
  const bool cross_scoring = own_switch(options, "cross_scoring");
  return score_kv_heads(layer, options, n, [&](size_t kv_head, std::span<float> row) {
    // Sinks and the last partition score 1. If the budget is too small for them all, sinks and then
    // the latest tokens win.
    constexpr float kTie = 1.0e-5F;
    for (size_t j = 0; j < n; ++j) {
      row[j] = 1.0F + kTie * (j < sinks ? 1.0F : static_cast<float>(j) / static_cast<float>(n));
    }
    if (n < sinks + 2 * lag) {  // no partitions to compare: later tokens score higher
      for (size_t j = sinks; j < n; ++j) {
        row[j] = static_cast<float>(j - sinks) / static_cast<float>(n - sinks);
      }
      return;
    }
    // Ranks would hide NaN.
    if (!all_finite(layer.keys.head(kv_head)) || !all_finite(layer.values.head(kv_head))) {
      throw_not_finite(layer, kv_head, 1, 0);
    }
    for (size_t begin = sinks; begin + 2 * lag <= n; begin += lag) {
      const auto partition = row.subspan(begin, lag);
      std::fill(partition.begin(), partition.end(), 0.0F);
      for (const auto& rows : {layer.keys.head(kv_head), layer.values.head(kv_head)}) {
        add_partition(rows.slice(begin, lag), rows.slice(begin + lag, lag), partition);
      }
      for (float& x : partition) x /= 2;
      if (!cross_scoring) rank(partition);
    }
  });
}

}  // namespace

Method lagkv_method() {
  Method method;
  method.name = "lagkv";
  method.summary = "tokens whose channels spread beyond the range of the tokens after them";
  method.paper =
      "LagKV: Lag-Relative Information of the KV Cache Tells Which Tokens Are Important, "
      "arXiv 2504.04704";
  method.options = {"sinks", "per_query_head"};
  method.own_options = {
      {"lag", "N", "tokens per partition", 128},
      {"cross_scoring", "true|false", "compare scores, not ranks, between partitions", false}};
  method.defaults.method = method.name;
  method.check = check;
  method.score = score;
  return method;
}

}  // namespace restkv
