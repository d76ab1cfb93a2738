#include "attention/reference.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace restkv::testing {

namespace {

double largest_of(const float* row, size_t n) {
  double largest = 0;
  for (size_t c = 0; c < n; ++c) largest = std::max(largest, std::abs(double{row[c]}));
  return largest;
}

}  // namespace

void expect_attention(const float* query, Matrix<const float> visible_keys,
                      Matrix<const float> visible_values, const AttentionOptions& options,
                      Expected& expected) {
  const bool halves = options.precision == AttentionPrecision::kBf16;
  const double unit = halves ? 0x1p-9 : 0x1p-24;  // rounding error of a factor
  const bool bytes = options.precision == AttentionPrecision::kInt8;
  const double weight_error = bytes    ? 64 * 0.5 / 127 + 0.5 / 127 + 1e-4
                              : halves ? 0x1p-8
                                       : 5e-7;  // of weights, values and sums
  const double query_error = bytes ? 0.5001 / 127 * largest_of(query, visible_keys.cols) : 0;
  const size_t rows = visible_keys.rows;
  const double scale = options.scale > 0 ? static_cast<double>(options.scale)
                                         : 1.0 / std::sqrt(static_cast<double>(visible_keys.cols));
  const double cap = options.softcap;
  double logit_error = 0;
  std::vector<double> weights(rows);
  for (size_t j = 0; j < rows; ++j) {
    double sum = 0;
    double magnitude = 0;
    double rounding = 0;
    const double key_error =
        bytes ? 0.5001 / 127 * largest_of(visible_keys.row(j), visible_keys.cols) : 0;
    for (size_t c = 0; c < visible_keys.cols; ++c) {
      const double product = static_cast<double>(query[c]) * visible_keys.row(j)[c];
      sum += product;
      magnitude += std::abs(product);
      rounding += std::abs(query[c]) * key_error +
                  query_error * (std::abs(visible_keys.row(j)[c]) + key_error);
    }
    weights[j] = cap > 0 ? cap * std::tanh(scale * sum / cap) : scale * sum;
    if (options.bias.data != nullptr) weights[j] += double{options.bias.row(0)[j]};
    logit_error = std::max(logit_error, scale * (unit * magnitude + rounding));
  }
  if (cap > 0) logit_error = std::min(logit_error, 2 * cap) + 3e-7 * cap;

  double largest = rows == 0 ? 0 : *std::max_element(weights.begin(), weights.end());
  double total = 0;
  if (!options.sink_logits.empty()) {
    const double sink = options.sink_logits.front();
    largest = std::max(largest, sink);
    total = std::exp(sink - largest);
  }
  for (double& w : weights) {
    w = std::exp(w - largest);
    total += w;
  }
  expected.cols = visible_values.cols;
  const size_t begin = expected.values.size();
  expected.values.resize(begin + expected.cols);
  double largest_value = 0;
  for (size_t j = 0; j < rows; ++j) {
    for (size_t c = 0; c < expected.cols; ++c) {
      const double v = visible_values.row(j)[c];
      expected.values[begin + c] += weights[j] / total * v;
      largest_value = std::max(largest_value, std::abs(v));
    }
  }
  expected.tolerances.push_back((weight_error + 2 * logit_error) * largest_value);
}

Expected causal_attention(Heads<const float> queries, Heads<const float> keys,
                          Heads<const float> values, size_t first,
                          const AttentionOptions& options) {
  Expected expected;
  const size_t group = queries.heads / keys.heads;
  for (size_t h = 0; h < queries.heads; ++h) {
    for (size_t i = 0; i < queries.rows; ++i) {
      const size_t end = first + i + 1;
      const size_t window = options.sliding_window;
      const size_t begin = window > 0 && end > window ? end - window : 0;
      AttentionOptions of_head = options;
      if (options.bias.data != nullptr) {
        of_head.bias = options.bias.slice(h / group, 1);
        of_head.bias.data += begin;
      }
      if (!options.sink_logits.empty()) of_head.sink_logits = options.sink_logits.subspan(h, 1);
      expect_attention(queries.row(h, i), keys.head(h / group).slice(begin, end - begin),
                       values.head(h / group).slice(begin, end - begin), of_head, expected);
    }
  }
  return expected;
}

double worst_error(const Expected& expected, size_t row, const float* actual) {
  double worst = 0;
  for (size_t c = 0; c < expected.cols; ++c) {
    const double error = std::abs(static_cast<double>(actual[c]) - expected.row(row)[c]);
    if (error == 0) continue;  // also where the tolerance is 0
    const double relative = error / expected.tolerances[row];
    worst = relative >= 0 ? std::max(worst, relative) : std::numeric_limits<double>::infinity();
  }
  return worst;
}

}  // namespace restkv::testing
