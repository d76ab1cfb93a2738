#include "compress/reference.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "compress/methods/restkv.h"

namespace restkv::testing {
namespace {

using Rows = std::vector<std::vector<double>>;

/// Softmax weights of the window of one query head, [window][n].
Rows window_weights(const LayerObservation& layer, size_t head, size_t window) {
  const size_t n = layer.keys.rows;
  const size_t kv = head * layer.keys.heads / layer.queries.heads;
  const double scale =
      layer.scale != 0.0F ? double{layer.scale} : 1.0 / std::sqrt(double(layer.keys.dim));
  Rows weights(window, std::vector<double>(n, 0.0));
  for (size_t r = 0; r < window; ++r) {
    const float* q = layer.queries.row(head, layer.queries.rows - window + r);
    double largest = -1e300;
    for (size_t j = 0; j <= n - window + r; ++j) {
      double logit = 0.0;
      for (size_t c = 0; c < layer.keys.dim; ++c) {
        logit += double{q[c]} * double{layer.keys.row(kv, j)[c]};
      }
      logit *= scale;
      if (layer.softcap > 0.0F) logit = layer.softcap * std::tanh(logit / layer.softcap);
      weights[r][j] = logit;
      largest = std::max(largest, logit);
    }
    double sum = 0.0;
    if (!layer.sink_logits.empty()) {
      largest = std::max(largest, double{layer.sink_logits[head]});
      sum = std::exp(layer.sink_logits[head] - largest);
    }
    for (size_t j = 0; j <= n - window + r; ++j) {
      weights[r][j] = std::exp(weights[r][j] - largest);
      sum += weights[r][j];
    }
    for (double& x : weights[r]) x /= sum;
  }
  return weights;
}

/// The window's rows as one, by the recursion itself.
std::vector<double> combine(const Rows& rows, const RestkvOptions& options) {
  const size_t columns = rows[0].size();
  std::vector<double> out(columns, 0.0);
  for (size_t j = 0; j < columns; ++j) {
    if (options.indicator != Indicator::kReconstruction) {
      for (const auto& row : rows) out[j] += row[j];
    } else if (options.temporal == Temporal::kMean) {
      for (const auto& row : rows) out[j] += row[j] / double(rows.size());
    } else if (options.temporal == Temporal::kNewest) {
      out[j] = rows.back()[j];
    } else {
      std::vector<double> column;
      for (const auto& row : rows) column.push_back(row[j]);
      if (options.temporal == Temporal::kInverseEma) std::reverse(column.begin(), column.end());
      double e = column[0];
      for (size_t r = 1; r < column.size(); ++r) {
        e = options.alpha * column[r] + (1 - options.alpha) * e;
      }
      out[j] = e;
    }
  }
  return out;
}

/// ||W_h x||, or ||x|| without W_O.
double error_norm(const std::vector<double>& x, Matrix<const float> wo, size_t head,
                  const RestkvOptions& options) {
  double square = 0.0;
  if (!options.use_wo) {
    for (const double c : x) square += c * c;
    return std::sqrt(square);
  }
  for (size_t out = 0; out < wo.rows; ++out) {
    double y = 0.0;
    for (size_t c = 0; c < x.size(); ++c) y += double{wo.row(out)[head * x.size() + c]} * x[c];
    square += y * y;
  }
  return std::sqrt(square);
}

double odds(double a) { return a / std::max(1 - a, std::ldexp(1.0, -24)); }

/// Scores of the past positions of one query head.
std::vector<double> raw_scores(const LayerObservation& layer, Matrix<const float> wo, size_t head,
                               const Rows& weights, const RestkvOptions& options) {
  const size_t dim = layer.values.dim;
  const size_t past = layer.keys.rows - weights.size();
  const size_t kv = head * layer.keys.heads / layer.queries.heads;
  const auto value = [&](size_t j, size_t c) { return double{layer.values.row(kv, j)[c]}; };
  const auto difference_norm = [&](const std::vector<double>& o, size_t j) {
    std::vector<double> x(dim);
    for (size_t c = 0; c < dim; ++c) x[c] = o[c] - value(j, c);
    return error_norm(x, wo, head, options);
  };

  if (options.indicator == Indicator::kReconstruction &&
      options.order == ReconstructionOrder::kBefore) {
    Rows errors(weights.size(), std::vector<double>(past));
    for (size_t r = 0; r < weights.size(); ++r) {
      std::vector<double> o(dim, 0.0);
      for (size_t j = 0; j < layer.keys.rows; ++j) {
        for (size_t c = 0; c < dim; ++c) o[c] += weights[r][j] * value(j, c);
      }
      const double size = options.normalize ? error_norm(o, wo, head, options) : 1.0;
      for (size_t j = 0; j < past; ++j) {
        errors[r][j] = odds(weights[r][j]) * difference_norm(o, j) / size;
      }
    }
    return combine(errors, options);
  }

  std::vector<double> raw = combine(weights, options);
  raw.resize(past);
  if (options.indicator == Indicator::kAttentionValue) {
    for (size_t j = 0; j < past; ++j) {
      double square = 0.0;
      for (size_t c = 0; c < dim; ++c) square += value(j, c) * value(j, c);
      raw[j] *= std::sqrt(square);
    }
  } else if (options.indicator == Indicator::kReconstruction) {
    std::vector<double> o(dim, 0.0);
    for (size_t j = 0; j < past; ++j) {
      for (size_t c = 0; c < dim; ++c) o[c] += raw[j] * value(j, c);
    }
    for (size_t j = 0; j < past; ++j) {
      raw[j] = odds(raw[j]) * std::pow(difference_norm(o, j), options.use_wo ? options.tau : 1.0);
    }
  }
  return raw;
}

double window_drift(const Rows& weights, size_t count) {
  double half[2] = {0.0, 0.0};
  const size_t older = weights.size() / 2;
  if (older == 0) return 0.0;
  for (size_t r = 0; r < weights.size(); ++r) {
    std::vector<size_t> order(weights[r].size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return weights[r][a] > weights[r][b]; });
    const double rows = r < older ? double(older) : double(weights.size() - older);
    for (size_t i = 0; i < count; ++i) {
      half[r < older ? 0 : 1] += double(order[i]) / (rows * double(count));
    }
  }
  return half[0] - half[1];
}

/// The sums of the older and of the newer half of a window's rows.
Rows half_windows(const Rows& weights) {
  const size_t older = weights.size() / 2;
  if (older == 0) return weights;
  Rows halves(2, std::vector<double>(weights[0].size(), 0.0));
  for (size_t r = 0; r < weights.size(); ++r) {
    for (size_t j = 0; j < weights[r].size(); ++j) halves[r < older ? 0 : 1][j] += weights[r][j];
  }
  return halves;
}

std::vector<double> smoothed(const std::vector<double>& raw, Pooling pooling, int kernel,
                             int shift) {
  const auto size = static_cast<int>(raw.size());
  std::vector<double> out(raw.size());
  for (int i = 0; i < size; ++i) {
    double sum = 0.0;
    double largest = -1e300;
    for (int j = -(kernel / 2); j <= kernel / 2; ++j) {
      const int seen = i + shift + j;
      if (pooling == Pooling::kAdaptive) {
        sum += raw[static_cast<size_t>(std::clamp(seen, 0, size - 1))];
      } else if (seen >= 0 && seen < size) {
        sum += raw[static_cast<size_t>(seen)];
        largest = std::max(largest, raw[static_cast<size_t>(seen)]);
      }
    }
    const auto at = static_cast<size_t>(i);
    out[at] = pooling == Pooling::kNone  ? raw[at]
              : pooling == Pooling::kMax ? largest
                                         : sum / kernel;
  }
  return out;
}

std::vector<double> reduced(const Rows& rows, GroupReduce reduce) {
  std::vector<double> out = rows[0];
  for (size_t g = 1; g < rows.size(); ++g) {
    for (size_t j = 0; j < out.size(); ++j) {
      out[j] = reduce == GroupReduce::kMax ? std::max(out[j], rows[g][j]) : out[j] + rows[g][j];
    }
  }
  if (reduce == GroupReduce::kMean) {
    for (double& x : out) x /= double(rows.size());
  }
  return out;
}

}  // namespace

RandomLayer::RandomLayer(size_t query_heads, size_t kv_heads, size_t length, size_t dim,
                         size_t query_rows, size_t width, uint32_t seed, float sharpness) {
  std::mt19937 engine(seed);
  std::normal_distribution<float> normal;
  const auto fill = [&](std::vector<float>& x, size_t size, float spread) {
    x.resize(size);
    for (float& e : x) e = spread * normal(engine);
  };
  fill(q, query_heads * query_rows * dim, sharpness);
  fill(k, kv_heads * length * dim, 1.0F);
  fill(v, kv_heads * length * dim, 1.0F);
  fill(wo, width * query_heads * dim, 0.1F);
  output_projection = {wo.data(), width, query_heads * dim};
  factor = OutputFactor(output_projection, query_heads, dim);
  view.queries = {q.data(), query_heads, query_rows, dim, dim, query_heads * dim};
  view.keys = {k.data(), kv_heads, length, dim, dim, kv_heads * dim};
  view.unrotated_keys = view.keys;
  view.values = {v.data(), kv_heads, length, dim, dim, kv_heads * dim};
  view.output = &factor;
}

ReferenceResult reference_scores(const LayerObservation& layer, Matrix<const float> wo,
                                 const CompressionOptions& options) {
  ReferenceResult result;
  const auto window = static_cast<size_t>(options.window);
  const size_t group = layer.queries.heads / layer.keys.heads;
  for (size_t kv = 0; kv < layer.keys.heads; ++kv) {
    Rows raw;
    std::vector<double> drift;
    for (size_t head = kv * group; head < (kv + 1) * group; ++head) {
      const Rows weights = window_weights(layer, head, window);
      raw.push_back(raw_scores(layer, wo, head, weights, RestkvOptions(options)));
      drift.push_back(window_drift(options.kernel == kAutoKernel ? half_windows(weights) : weights,
                                   static_cast<size_t>(options.budget) - window));
    }
    if (options.reduce_before_pooling && !options.per_query_head) {
      raw = {reduced(raw, options.group_reduce)};
      drift = {std::accumulate(drift.begin(), drift.end(), 0.0) / double(group)};
    }
    Rows pooled;
    for (size_t h = 0; h < raw.size(); ++h) {
      const bool two_scales = options.kernel == kAutoKernel && options.pooling != Pooling::kNone;
      int kernel = two_scales ? 21 : options.kernel;
      int shift = 0;
      // A drift that cannot reach a step is not looked for.
      const bool still =
          two_scales && static_cast<double>(layer.keys.rows) - options.budget < options.drift_scale;
      if (options.pooling == Pooling::kAdaptive && !still) {
        const double steps = drift[h] / options.drift_scale;
        kernel = std::max(kernel, 2 * static_cast<int>(std::abs(steps)) + 1);
        shift = static_cast<int>(std::floor(steps)) + (drift[h] > 0 ? 0 : 1);
        result.drift.push_back(drift[h]);
        result.kernel.push_back(kernel);
        result.shift.push_back(shift);
      }
      if (!two_scales) {
        pooled.push_back(smoothed(raw[h], options.pooling, kernel, shift));
        continue;
      }
      const auto both = [&](const std::vector<double>& scores) {
        std::vector<double> out = smoothed(scores, options.pooling, 1, shift);
        const auto adjacent = smoothed(scores, options.pooling, 3, shift);
        const auto wide = smoothed(scores, options.pooling, kernel, shift - 4);
        for (size_t i = 0; i < out.size(); ++i)
          out[i] = std::max((out[i] + 3 * adjacent[i]) / 4, 2 * wide[i]);
        return out;
      };
      std::vector<double> without_first = raw[h];
      without_first[0] = 0.0;
      pooled.push_back(both(without_first));
      const auto with_first = both(raw[h]);
      const int reach = std::min(14, std::max(0, options.budget - options.window) / 8);
      for (size_t i = 0; i < raw[h].size() && static_cast<int>(i) <= reach; ++i) {
        pooled.back()[i] = with_first[i];
      }
      pooled.back()[0] = std::max(with_first[0], raw[h][0]);
    }
    result.raw.insert(result.raw.end(), raw.begin(), raw.end());
    result.smoothed.insert(result.smoothed.end(), pooled.begin(), pooled.end());
    if (options.per_query_head) {
      result.scores.insert(result.scores.end(), pooled.begin(), pooled.end());
    } else {
      result.scores.push_back(reduced(pooled, options.group_reduce));
    }
  }
  return result;
}

}  // namespace restkv::testing
