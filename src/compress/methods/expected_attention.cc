#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "attention/softmax_scale.h"
#include "compress/expected_queries.h"
#include "compress/kv_scores.h"
#include "compress/method.h"
#include "compress/row_products.h"
#include "restkv/error.h"

namespace restkv {

ExpectedQueries expected_queries(const QueryStatistics& statistics, size_t head,
                                 const MeanRotation& rotation) {
  ExpectedQueries queries{statistics.mean(head), statistics.covariance(head)};
  const size_t dim = statistics.head_dim();
  rotation.rotate(queries.mean.data());
  // R S R^T: rotate every column, then every row.
  for (size_t c = 0; c < dim; ++c) rotation.rotate(queries.covariance.data() + c, dim);
  for (size_t r = 0; r < dim; ++r) rotation.rotate(queries.covariance.data() + r * dim);
  return queries;
}

namespace {

/// Limit of future positions; their angles take 128 MB with heads of 256 channels.
constexpr int kMostFuture = 1 << 16;

void check(const CompressionOptions& options) {
  check_protected(options, "sinks", options.sinks);
  if (const int future = own_whole(options, "future"); future < 1 || future > kMostFuture) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("future is {}; expected 1 to {} positions to come (512 is usual)",
                            future, kMostFuture));
  }
}

/// Number of first tokens of the layer that are always kept.
size_t sinks_of(const LayerObservation& layer, const CompressionOptions& options) {
  return std::min(layer.keys.rows, static_cast<size_t>(options.sinks));
}

/// Attention that queries q ~ N(mean, covariance) are expected to give: the softmax of the logits
/// of E[exp(q.k / sqrt(d))] over the keys after the sinks, averaged over the group.
void score_head(const LayerObservation& layer, const CompressionOptions& options, size_t kv_head,
                std::span<float> scores) {
  const size_t sinks = sinks_of(layer, options);
  const size_t group = layer.queries.heads / layer.keys.heads;
  const auto tail = layer.keys.head(kv_head).slice(sinks, layer.keys.rows - sinks);
  const auto out = scores.subspan(sinks);
  const bool use_covariance = own_switch(options, "use_covariance");
  const auto epsilon = static_cast<float>(own_real(options, "epsilon"));
  const float scale = softmax_scale(layer.scale, layer.keys.dim);
  std::vector<float> logits(tail.rows), spread(tail.rows);
  std::fill(out.begin(), out.end(), 0.0F);
  for (size_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    const ExpectedQueries queries = expected_queries(
        *layer.query_statistics, layer.first_query_head + head, *layer.future_rotation);
    dot_products(tail, queries.mean, logits);
    for (float& x : logits) x *= scale;
    if (use_covariance) {
      quadratic_forms(tail, {queries.covariance.data(), tail.cols, tail.cols}, spread);
      for (size_t j = 0; j < tail.rows; ++j) logits[j] += spread[j] * scale * scale / 2;
    }
    if (layer.bias.data != nullptr) {
      for (size_t j = 0; j < tail.rows; ++j) logits[j] += layer.bias.row(kv_head)[sinks + j];
    }
    softmax(logits,
            layer.sink_logits.empty() ? std::nullopt : std::optional(layer.sink_logits[head]));
    for (size_t j = 0; j < tail.rows; ++j) out[j] += logits[j] / static_cast<float>(group);
  }
  if (own_switch(options, "use_value_norm")) {
    square_norms(layer.values.head(kv_head).slice(sinks, tail.rows), spread);
    for (size_t j = 0; j < tail.rows; ++j) {
      out[j] = (out[j] + epsilon) * std::sqrt(spread[j]);
    }
  }
}

LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  LayerScores scores = score_kv_heads(
      layer, options, layer.keys.rows,
      [&](size_t kv_head, std::span<float> row) { score_head(layer, options, kv_head, row); });
  raise_sinks(scores, sinks_of(layer, options));
  return scores;
}

}  // namespace

Method expected_attention_method() {
  Method method;
  method.name = "expected-attention";
  method.summary =
      "attention that the queries to come are expected to give, times the value's norm";
  method.paper =
      "Expected Attention: KV Cache Compression by Estimating Attention from Future Queries "
      "Distribution, arXiv 2510.00636";
  method.options = {"sinks", "per_query_head"};
  method.own_options = {
      {"future", "N", "number of future positions to average over", 512},
      {"use_covariance", "true|false", "use the covariance of the queries", true},
      {"use_value_norm", "true|false", "weigh expected attention by the norm of the value", true},
      {"epsilon", "X", "added to expected attention before it is weighed", 0.0}};
  method.conditions = {{"epsilon", "use_value_norm", [](const CompressionOptions& options) {
                          return own_switch(options, "use_value_norm");
                        }}};
  method.defaults.method = method.name;
  method.check = check;
  method.future_positions = [](const CompressionOptions& options) {
    return static_cast<size_t>(own_whole(options, "future"));
  };
  method.score = score;
  return method;
}

}  // namespace restkv
