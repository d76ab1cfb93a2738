#include "compress/refit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include "attention/softmax_scale.h"
#include "compress/double_matrix.h"
#include "compress/finite.h"
#include "restkv/attention.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Least weight of a row whose bias has no lower bound.
constexpr double kLeastWeight = 1e-12;
/// What half precision can hold, with some room for rounding.
constexpr double kLargestValue = 65000;

double largest(const DoubleMatrix& x) {
  double most = 0;
  for (size_t i = 0; i < x.rows(); ++i) {
    for (size_t j = 0; j < x.cols(); ++j) most = std::max(most, std::abs(x.row(i)[j]));
  }
  return most;
}

/// exp(z_ij - offset_i) of every query with every row, 0 where it is not visible: [r, t].
DoubleMatrix exponentials(const FitTargets& targets, const FitRows& rows,
                          std::span<const double> offsets) {
  DoubleMatrix e = product(DoubleMatrix(targets.queries), transposed(DoubleMatrix(rows.keys)));
  const auto scale = double{softmax_scale(targets.scale, rows.keys.cols)};
  const double cap = targets.softcap;
  for (size_t i = 0; i < e.rows(); ++i) {
    double* row = e.row(i);
    const size_t visible = rows.visible.empty() ? e.cols() : rows.visible[i];
    for (size_t j = 0; j < visible; ++j) {
      double z = row[j] * scale;
      if (cap > 0) z = cap * std::tanh(z / cap);
      row[j] = std::exp(z - offsets[i]);
    }
    std::fill(row + visible, row + e.cols(), 0.0);
  }
  return e;
}

/// e x for a vector.
std::vector<double> times(const DoubleMatrix& e, std::span<const double> x) {
  std::vector<double> y(e.rows(), 0.0);
  for (size_t i = 0; i < e.rows(); ++i) {
    for (size_t j = 0; j < e.cols(); ++j) y[i] += e.row(i)[j] * x[j];
  }
  return y;
}
/// e^T x.
std::vector<double> transposed_times(const DoubleMatrix& e, std::span<const double> x) {
  std::vector<double> y(e.cols(), 0.0);
  for (size_t i = 0; i < e.rows(); ++i) {
    for (size_t j = 0; j < e.cols(); ++j) y[j] += e.row(i)[j] * x[i];
  }
  return y;
}
double norm(std::span<const double> x) {
  double square = 0.0;
  for (const double v : x) square += v * v;
  return std::sqrt(square);
}

/// 1 / sigma^2 for the largest singular value sigma of e, by three power iterations.
double step_size(const DoubleMatrix& e, std::span<const float> start) {
  constexpr int kIterations = 3;
  std::vector<double> u(e.cols(), 1.0);
  if (!start.empty()) std::copy_n(start.begin(), u.size(), u.begin());
  const auto normalized = [](std::vector<double> x) {
    const double length = norm(x);
    for (double& v : x) v = length > 0 ? v / length : 0.0;
    return x;
  };
  for (int i = 0; i < kIterations; ++i)
    u = normalized(transposed_times(e, normalized(times(e, u))));
  const double sigma = norm(times(e, u));
  return sigma > 0 ? 1.0 / (sigma * sigma) : 0.0;
}

double mass_error(const DoubleMatrix& e, std::span<const double> weights,
                  std::span<const double> mass) {
  std::vector<double> rest = times(e, weights);
  for (size_t i = 0; i < rest.size(); ++i) rest[i] -= mass[i];
  return norm(rest);
}

/// Weights of the rows with which their mass is that of all rows.
std::vector<double> fit_weights(const DoubleMatrix& e, std::span<const double> mass,
                                const std::vector<double>& before, const FitSettings& settings) {
  const size_t t = e.cols();
  std::vector<double> start(t, 0.0);
  if (settings.near_rows) start = before;
  DoubleMatrix rest(e.rows(), 1);
  const std::vector<double> now = times(e, start);
  for (size_t i = 0; i < mass.size(); ++i) rest.row(i)[0] = mass[i] - now[i];
  const DoubleMatrix gram = smaller_gram(e);
  const double ridge =
      settings.bias_ridge > 0 ? settings.bias_ridge * largest_eigenvalue(gram) : 0.0;
  const DoubleMatrix change = least_squares(e, gram, rest, ridge);
  const double least =
      std::isfinite(settings.least_bias) ? std::exp(settings.least_bias) : kLeastWeight;
  const double most = std::exp(settings.most_bias);
  std::vector<double> weights(t);
  for (size_t j = 0; j < t; ++j) {
    weights[j] = std::clamp(start[j] + change.row(j)[0], least, most);
  }
  if (settings.steps == 0) return weights;
  const double eta = step_size(e, settings.start);
  for (int step = 0; step < settings.steps; ++step) {
    std::vector<double> error = times(e, weights);
    for (size_t i = 0; i < error.size(); ++i) error[i] -= mass[i];
    const std::vector<double> slope = transposed_times(e, error);
    for (size_t j = 0; j < t; ++j) {
      weights[j] = std::clamp(weights[j] - eta * slope[j], least, most);
    }
  }
  return weights;
}

/// Softmax over the rows: e times their weights, divided by the sum and the sink's part. A query
/// that sees no row has zeros.
DoubleMatrix attention(DoubleMatrix e, std::span<const double> weights,
                       std::span<const double> sink_mass) {
  for (size_t i = 0; i < e.rows(); ++i) {
    double* row = e.row(i);
    double sum = sink_mass[i];
    for (size_t j = 0; j < e.cols(); ++j) sum += row[j] *= weights[j];
    for (size_t j = 0; j < e.cols(); ++j) row[j] = sum > 0 ? row[j] / sum : 0.0;
  }
  return e;
}

/// outputs - x values
DoubleMatrix errors(const DoubleMatrix& x, const DoubleMatrix& values,
                    const DoubleMatrix& outputs) {
  DoubleMatrix result = product(x, values);
  for (size_t i = 0; i < result.rows(); ++i) {
    for (size_t c = 0; c < result.cols(); ++c) {
      result.row(i)[c] = outputs.row(i)[c] - result.row(i)[c];
    }
  }
  return result;
}

/// Values with which x times them is nearest to the outputs.
DoubleMatrix fit_values(const DoubleMatrix& x, const DoubleMatrix& before,
                        const DoubleMatrix& outputs, const FitSettings& settings) {
  const DoubleMatrix gram = smaller_gram(x);
  double ridge = 0.0;
  if (settings.value_ridge > 0) {
    ridge =
        settings.value_ridge * (settings.mean_scale ? square_norm(x) / static_cast<double>(x.cols())
                                                    : largest_eigenvalue(gram));
  }
  if (!settings.near_rows) return least_squares(x, gram, outputs, ridge);
  DoubleMatrix values = least_squares(x, gram, errors(x, before, outputs), ridge);
  for (size_t j = 0; j < values.rows(); ++j) {
    for (size_t c = 0; c < values.cols(); ++c) values.row(j)[c] += before.row(j)[c];
  }
  return values;
}

struct Candidate {
  std::vector<double> weights;
  DoubleMatrix values;
  double squared_error = 0.0;
};

/// Values are fitted for biases as they are stored, in float32.
Candidate fitted(const DoubleMatrix& e, std::vector<double> weights,
                 std::span<const double> sink_mass, const DoubleMatrix& before,
                 const DoubleMatrix& outputs, const FitSettings& settings) {
  for (double& w : weights) w = std::exp(double{static_cast<float>(std::log(w))});
  const DoubleMatrix x = attention(e, weights, sink_mass);
  Candidate result{std::move(weights), before};
  if (settings.fit_values) result.values = fit_values(x, before, outputs, settings);
  result.squared_error = square_norm(errors(x, result.values, outputs));
  return result;
}

[[noreturn]] void refuse(const std::string& message) {
  throw Error(ErrorCode::kInvalidArgument, message);
}

/// Copies [heads, m, d] without gaps.
AlignedVector<float> packed(const Heads<const float>& from) {
  AlignedVector<float> to(from.heads * from.rows * from.dim);
  for (size_t h = 0; h < from.heads; ++h) {
    for (size_t r = 0; r < from.rows; ++r) {
      std::copy_n(from.row(h, r), from.dim, &to[(h * from.rows + r) * from.dim]);
    }
  }
  return to;
}

}  // namespace

RefittedRows fit_rows(const FitTargets& targets, const FitRows& rows, const FitSettings& settings) {
  const size_t t = rows.keys.rows;
  const size_t r = targets.queries.rows;
  const std::span<const double> offsets = settings.offsets.empty() ? targets.lse : settings.offsets;
  const DoubleMatrix e = exponentials(targets, rows, offsets);
  const DoubleMatrix outputs(targets.outputs);
  const DoubleMatrix before(rows.values);
  std::vector<double> old_weights(t, 1.0), mass(r), sink_mass(r, 0.0);
  for (size_t j = 0; j < rows.bias.size(); ++j) old_weights[j] = std::exp(double{rows.bias[j]});
  for (size_t i = 0; i < r; ++i) {
    if (!targets.sink_logits.empty()) sink_mass[i] = std::exp(targets.sink_logits[i] - offsets[i]);
    mass[i] = std::max(0.0, std::exp(targets.lse[i] - offsets[i]) - sink_mass[i]);
  }

  RefittedRows fit;
  fit.squared_outputs = square_norm(outputs);
  fit.squared_error_before =
      square_norm(errors(attention(e, old_weights, sink_mass), before, outputs));
  std::vector<double> weights = old_weights;
  if (settings.fit_bias) {
    weights = fit_weights(e, mass, old_weights, settings);
    if (settings.guarded && mass_error(e, weights, mass) > mass_error(e, old_weights, mass)) {
      weights = old_weights;
    }
  }
  Candidate best = fitted(e, std::move(weights), sink_mass, before, outputs, settings);
  // Values alone never make the error larger, but biases may.
  if (settings.guarded && best.squared_error > fit.squared_error_before) {
    best = fitted(e, old_weights, sink_mass, before, outputs, settings);
  }
  // Least squares that hardly determine the values make huge ones, which most caches cannot hold.
  if (settings.guarded && largest(best.values) > kLargestValue) {
    best = {.weights = old_weights, .values = before, .squared_error = fit.squared_error_before};
  }
  fit.squared_error = best.squared_error;
  for (const double w : best.weights) fit.bias.push_back(static_cast<float>(std::log(w)));
  for (size_t j = 0; j < t; ++j) {
    fit.values.insert(fit.values.end(), best.values.row(j), best.values.row(j) + before.cols());
  }
  return fit;
}

void check_refit(const CompressionOptions& options) {
  if (options.refit == Refit::kRepeat && options.refit_queries < 1) {
    refuse(fmt::format("refit_queries is {}; give 1 or more queries per head (256 is usual)",
                       options.refit_queries));
  }
  if (!(options.refit_ridge >= 0.0 && std::isfinite(options.refit_ridge))) {
    refuse(fmt::format("refit_ridge is {}; it must be 0 or more ({} is the default)",
                       options.refit_ridge, CompressionOptions().refit_ridge));
  }
  if (options.refit == Refit::kWindow && options.window < 1) {
    refuse(
        fmt::format("window is {}, and rows are refitted for the queries of the window; let "
                    "refit be repeat, or widen the window",
                    options.window));
  }
}

RefitTargets refit_targets(const LayerObservation& layer, const CompressionOptions& options) {
  RefitTargets targets;
  const size_t n = layer.keys.rows;
  const bool window = options.refit == Refit::kWindow;
  Heads<const float> queries = layer.repeat_queries;
  if (window) {
    const size_t count = std::min({static_cast<size_t>(options.window), layer.queries.rows, n});
    queries = layer.queries.slice_rows(layer.queries.rows - count, count);
  }
  if (queries.rows == 0) return targets;
  if (layer.keys.heads == 0 || n == 0 || queries.heads % layer.keys.heads != 0 ||
      queries.dim != layer.keys.dim || layer.values.heads != layer.keys.heads ||
      layer.values.rows != n) {
    refuse(
        fmt::format("refit: queries [{}, {}, {}], keys [{}, {}, {}] and values [{}, {}, {}] do "
                    "not fit each other",
                    queries.heads, queries.rows, queries.dim, layer.keys.heads, n, layer.keys.dim,
                    layer.values.heads, layer.values.rows, layer.values.dim));
  }
  targets.query_heads = queries.heads;
  targets.count = queries.rows;
  targets.dim = queries.dim;
  targets.value_dim = layer.values.dim;
  targets.scale = layer.scale;
  targets.softcap = layer.softcap;
  targets.sink_logits.assign(layer.sink_logits.begin(), layer.sink_logits.end());
  targets.queries = packed(queries);
  targets.lse.resize(queries.heads * queries.rows);
  targets.outputs.resize(queries.heads * queries.rows * layer.values.dim);
  for (size_t i = 0; window && i < queries.rows; ++i) {
    targets.positions.push_back(static_cast<int32_t>(n - queries.rows + i));
  }
  const size_t group = queries.heads / layer.keys.heads;
  for (size_t h = 0; h < layer.keys.heads; ++h) {  // attention may hide what is not finite
    const std::span<const float> own =
        std::span(targets.queries).subspan(h * group * queries.rows * queries.dim);
    if (all_finite(layer.keys.head(h)) && all_finite(layer.values.head(h)) &&
        all_finite({own.data(), group * queries.rows, queries.dim})) {
      continue;
    }
    throw_not_finite(layer, h, 1, window ? queries.rows : 0);
  }
  // In float32: errors of 8 bits would be fitted, too.
  prefill_attention(queries, layer.keys, layer.values, window ? n - queries.rows : 0,
                    {.scale = layer.scale,
                     .softcap = layer.softcap,
                     .causal = window,
                     .bias = layer.bias,
                     .sink_logits = layer.sink_logits},
                    {targets.outputs.data(), queries.heads, queries.rows, layer.values.dim},
                    {targets.lse.data(), queries.heads, queries.rows});
  return targets;
}

RefittedRows refit_rows(const RefitTargets& targets, size_t first, size_t heads,
                        const KeptRows& rows, const CompressionOptions& options) {
  const size_t t = rows.keys.rows;
  if (heads == 0 || first + heads > targets.query_heads || rows.keys.cols != targets.dim ||
      rows.values.rows != t || rows.values.cols != targets.value_dim ||
      rows.positions.size() != t || (!rows.bias.empty() && rows.bias.size() != t)) {
    refuse(
        fmt::format("refit: keys [{}, {}], values [{}, {}], {} positions and {} biases of query "
                    "heads {} to {} do not fit targets of {} query heads of {} and {}",
                    t, rows.keys.cols, rows.values.rows, rows.values.cols, rows.positions.size(),
                    rows.bias.size(), first, first + heads, targets.query_heads, targets.dim,
                    targets.value_dim));
  }
  if (!std::ranges::is_sorted(rows.positions)) {
    refuse("refit: the positions of kept rows must ascend");
  }
  const size_t r = heads * targets.count;
  const size_t at = first * targets.count;
  const auto first_lse = targets.lse.begin() + static_cast<ptrdiff_t>(at);
  const std::vector<double> lse(first_lse, first_lse + static_cast<ptrdiff_t>(r));
  std::vector<double> sinks;
  for (size_t i = 0; i < r && !targets.sink_logits.empty(); ++i) {
    sinks.push_back(targets.sink_logits.at(first + i / targets.count));
  }
  std::vector<size_t> visible;
  for (size_t i = 0; i < r && !targets.positions.empty(); ++i) {
    const auto end = std::ranges::upper_bound(rows.positions, targets.positions[i % targets.count]);
    visible.push_back(static_cast<size_t>(end - rows.positions.begin()));
  }
  return fit_rows({.queries = {&targets.queries[at * targets.dim], r, targets.dim},
                   .lse = lse,
                   .outputs = {&targets.outputs[at * targets.value_dim], r, targets.value_dim},
                   .scale = targets.scale,
                   .softcap = targets.softcap,
                   .sink_logits = sinks},
                  {.keys = rows.keys, .values = rows.values, .bias = rows.bias, .visible = visible},
                  {.bias_ridge = options.refit_ridge, .value_ridge = options.refit_ridge});
}

}  // namespace restkv
