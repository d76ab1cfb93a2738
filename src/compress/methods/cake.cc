#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/threads.h"
#include "compress/finite.h"
#include "compress/method.h"
#include "compress/window_scores.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options) {
  check_window(options);
  check_pooling(options);
  if (options.window < 2) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("window is {}; the variance over its rows needs at least 2 (32 is the "
                            "authors' value)",
                            options.window));
  }
  if (const double gamma = own_real(options, "gamma"); !(gamma >= 0.0)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("gamma is {}; the weight of the variance must be 0 or more (200 is the "
                            "authors' value)",
                            gamma));
  }
}

/// raw[g][n] = mean + gamma * variance over the window's rows of A[g, r, n].
void score_rows(const LayerObservation& layer, const CompressionOptions& options,
                const WindowAttention& attention, size_t kv_head, std::span<const float>,
                Matrix<float> raw) {
  if (kv_head == 0) require_finite_values(layer, 0);  // which it does not look at otherwise
  const double gamma = own_real(options, "gamma");
  const size_t window = attention.window();
  const auto count = static_cast<double>(window);
  parallel_for(raw.rows, [&](size_t g, size_t) {
    const Matrix<const float> rows = attention.rows().slice(g * window, window);
    for (size_t j = 0; j < raw.cols; ++j) {
      double sum = 0.0;
      for (size_t r = 0; r < window; ++r) sum += double{rows.row(r)[j]};
      const double mean = sum / count;
      double squares = 0.0;
      for (size_t r = 0; r < window; ++r) {
        const double difference = double{rows.row(r)[j]} - mean;
        squares += difference * difference;
      }
      raw.row(g)[j] = static_cast<float>(mean + gamma * squares / (count - 1));
    }
  });
}

/// Attention of the window and how much it changes from row to row.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* trace) {
  const std::vector<float> none(static_cast<size_t>(options.window), 0.0F);
  return score_by_window(layer, options, {.coefficients = none, .score_rows = score_rows}, trace);
}

}  // namespace

Method cake_method() {
  Method method;
  method.name = "cake";
  method.summary = "attention of the window, and how much it changes from query to query";
  method.paper =
      "CAKE: Cascading and Adaptive KV Cache Eviction with Layer Preferences, arXiv 2503.12491";
  method.options = {"window",        "pooling",      "kernel",
                    "drift_scale",   "group_reduce", "reduce_before_pooling",
                    "per_query_head"};
  method.own_options = {{"gamma", "X", "weight of the variance over the window's rows", 200.0}};
  method.defaults.method = method.name;
  method.defaults.pooling = Pooling::kAverage;
  method.defaults.kernel = 5;
  method.observed_queries = observe_window;
  method.check = check;
  method.score = score;
  return method;
}

}  // namespace restkv
