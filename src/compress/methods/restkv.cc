#include "compress/methods/restkv.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "compress/finite.h"
#include "compress/method.h"
#include "compress/reconstruction.h"
#include "compress/window_scores.h"
#include "restkv/error.h"

namespace restkv {
namespace {

void check(const CompressionOptions& all) {
  check_window(all);
  check_pooling(all);
  const RestkvOptions options(all);
  if (!(options.alpha > 0.0 && options.alpha <= 1.0)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("alpha is {}; the weight of the newer row must be above 0 and at most "
                            "1 (0.3 is the authors' value)",
                            options.alpha));
  }
  if (!(options.tau > 0.0 && std::isfinite(options.tau))) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("tau is {}; the exponent of the reconstruction norm must be a positive "
                            "number (1 is the authors' value)",
                            options.tau));
  }
}

bool needs_output(const CompressionOptions& all) {
  const RestkvOptions options(all);
  return options.use_wo && options.reconstructs();
}

size_t outputs_of_window(const CompressionOptions& options) {
  return RestkvOptions(options).reconstructs() ? observe_window(options) : 0;
}

/// Weight of each window row, oldest first. The exponential moving average e <- alpha * row +
/// (1 - alpha) * e, started with the first row it sees, is the weighted sum with alpha *
/// (1 - alpha)^age, and (1 - alpha)^(window - 1) for that first row.
std::vector<float> temporal_coefficients(const RestkvOptions& options, size_t window) {
  std::vector<float> coefficients(window, 0.0F);
  if (!options.reconstructs()) {
    std::fill(coefficients.begin(), coefficients.end(), 1.0F);
    return coefficients;
  }
  switch (options.temporal) {
    case Temporal::kMean:
      std::fill(coefficients.begin(), coefficients.end(), 1.0F / static_cast<float>(window));
      break;
    case Temporal::kNewest:
      coefficients.back() = 1.0F;
      break;
    case Temporal::kEma:
    case Temporal::kInverseEma: {
      double weight = options.alpha;
      for (size_t r = window - 1; r > 0; --r) {
        coefficients[r] = static_cast<float>(weight);
        weight *= 1.0 - options.alpha;
      }
      coefficients[0] = static_cast<float>(weight / options.alpha);
      if (options.temporal == Temporal::kInverseEma) {
        std::reverse(coefficients.begin(), coefficients.end());
      }
      break;
    }
  }
  return coefficients;
}

ErrorSpace error_space(const LayerObservation& layer, const CompressionOptions& options,
                       size_t first_head) {
  return {needs_output(options) ? layer.output : nullptr, layer.first_query_head + first_head,
          layer.precision};
}

/// Turns attention combined over the window into errors.
void finish(const LayerObservation& layer, const CompressionOptions& all,
            std::span<const float> coefficients, Matrix<float> combined) {
  const RestkvOptions options(all);
  const Matrix<float> raw(combined.data, combined.rows, combined.cols - coefficients.size(),
                          combined.stride);
  // The window's own values enter no score, but they are kept.
  const bool reads_values = options.indicator != Indicator::kAttention;
  require_finite_values(layer, reads_values ? raw.cols : 0);
  if (options.indicator == Indicator::kAttentionValue) {
    attention_times_value(raw, layer.values, raw);
  } else if (options.reconstructs()) {
    reconstruction_after(raw, combined_outputs(layer, coefficients, combined), layer.values,
                         error_space(layer, all, 0), options.tau, raw);
  }
}

/// Errors of every row of the window, combined afterwards.
void score_rows(const LayerObservation& layer, const CompressionOptions& options,
                const WindowAttention& attention, size_t kv_head,
                std::span<const float> coefficients, Matrix<float> raw) {
  const size_t group = attention.group();
  reconstruction_before(attention, row_outputs(layer, attention, kv_head),
                        layer.values.head(kv_head), error_space(layer, options, kv_head * group),
                        RestkvOptions(options).normalize, coefficients, raw);
}

/// ReST-KV, section 3 and the authors' code; see reconstruction.h for the two orders.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* trace) {
  const RestkvOptions own(options);
  const std::vector<float> coefficients =
      temporal_coefficients(own, static_cast<size_t>(options.window));
  WindowScoring scoring{.coefficients = coefficients, .finish = finish};
  if (own.reconstructs() && own.order == ReconstructionOrder::kBefore) {
    scoring = {.coefficients = coefficients, .score_rows = score_rows};
  }
  return score_by_window(layer, options, scoring, trace);
}

}  // namespace

RestkvOptions::RestkvOptions(const CompressionOptions& options)
    : indicator(static_cast<Indicator>(own_word(options, "indicator"))),
      order(static_cast<ReconstructionOrder>(own_word(options, "order"))),
      temporal(static_cast<Temporal>(own_word(options, "temporal"))),
      alpha(own_real(options, "alpha")),
      tau(own_real(options, "tau")),
      use_wo(own_switch(options, "use_wo")),
      normalize(own_switch(options, "normalize")) {}

Method restkv_method() {
  Method method;
  method.name = "restkv";
  method.summary = "change of the layer's output without a token, smoothed over time and positions";
  method.paper =
      "ReST-KV: Robust KV Cache Eviction with Layer-wise Output Reconstruction and "
      "Spatial-Temporal Smoothing, arXiv 2605.08840";
  method.options = {"window",        "pooling",      "kernel",
                    "drift_scale",   "group_reduce", "reduce_before_pooling",
                    "per_query_head"};
  method.own_options = {
      {"indicator", "reconstruction|attention|attention-value", "quantity that scores measure",
       "reconstruction"},
      {"order", "after|before", "reconstruction error after the moving average, or before it",
       "after"},
      {"temporal", "ema|mean|inverse-ema|newest", "how the rows of the window are combined", "ema"},
      {"alpha", "X", "weight of the newer row in the moving average", 0.3},
      {"tau", "X", "exponent of the reconstruction norm", 1.0},
      {"use_wo", "true|false", "measure the error after W_O", true},
      {"normalize", "true|false", "divide the error by the norm of the output (order before)",
       false}};
  for (const char* option : {"order", "temporal", "alpha", "tau", "use_wo", "normalize"}) {
    method.conditions.push_back({option, "indicator", [](const CompressionOptions& options) {
                                   return RestkvOptions(options).reconstructs();
                                 }});
  }
  method.conditions.push_back({"alpha", "temporal", [](const CompressionOptions& options) {
                                 const Temporal temporal = RestkvOptions(options).temporal;
                                 return temporal == Temporal::kEma ||
                                        temporal == Temporal::kInverseEma;
                               }});
  method.conditions.push_back({"tau", "order", [](const CompressionOptions& options) {
                                 return RestkvOptions(options).order == ReconstructionOrder::kAfter;
                               }});
  method.conditions.push_back({"normalize", "order", [](const CompressionOptions& options) {
                                 return RestkvOptions(options).order ==
                                        ReconstructionOrder::kBefore;
                               }});
  method.defaults.method = method.name;
  method.defaults.kernel = kAutoKernel;
  method.paper_defaults = method.defaults;
  method.paper_defaults->kernel = 5;
  method.observed_queries = observe_window;
  method.observed_outputs = outputs_of_window;
  method.check = check;
  method.needs_output = needs_output;
  method.score = score;
  return method;
}

}  // namespace restkv
