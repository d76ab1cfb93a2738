#include <vector>

#include "compress/finite.h"
#include "compress/method.h"
#include "compress/window_scores.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options) {
  check_window(options);
  check_pooling(options);
}

/// Mean attention of the window's rows, pooled. The authors sum the rows, which gives the same
/// order.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* trace) {
  const auto window = static_cast<size_t>(options.window);
  const std::vector<float> mean(window, 1.0F / static_cast<float>(window));
  const auto finish = [](const LayerObservation& l, const CompressionOptions&,
                         std::span<const float>, Matrix<float>) {
    require_finite_values(l, 0);  // which it does not look at otherwise
  };
  return score_by_window(layer, options, {.coefficients = mean, .finish = finish}, trace);
}

}  // namespace

Method snapkv_method() {
  Method method;
  method.name = "snapkv";
  method.summary = "attention of the observation window, pooled along positions";
  method.paper = "SnapKV: LLM Knows What You are Looking for Before Generation, arXiv 2404.14469";
  method.options = {"window",        "pooling",      "kernel",
                    "drift_scale",   "group_reduce", "reduce_before_pooling",
                    "per_query_head"};
  method.defaults.method = method.name;
  method.defaults.pooling = Pooling::kAverage;
  method.defaults.kernel = 5;
  method.defaults.reduce_before_pooling = true;
  method.observed_queries = observe_window;
  method.check = check;
  method.score = score;
  return method;
}

}  // namespace restkv
