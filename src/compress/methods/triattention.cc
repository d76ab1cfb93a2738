#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <vector>

#include "attention/softmax_scale.h"
#include "compress/calibration.h"
#include "compress/finite.h"
#include "compress/kv_scores.h"
#include "compress/method.h"
#include "compress/row_products.h"
#include "restkv/error.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

/// Limit of `offset_max`: positions are counted in 31 bits.
constexpr int kFarthest = 1 << 24;

/// The file that the option names. Throws if it has no queries.
std::shared_ptr<const Calibration> means_of(const CompressionOptions& options) {
  return require_calibration(options, &Calibration::queries,
                             R"("layers", the queries of every layer)");
}

void check(const CompressionOptions& options) {
  check_window_and_sinks(options);
  if (const int farthest = own_whole(options, "offset_max"); farthest < 1 || farthest > kFarthest) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("offset_max is {}; expected 1 to {} positions (65536 is the authors' "
                            "value)",
                            farthest, kFarthest));
  }
  (void)means_of(options);
}

void check_shape(const CompressionOptions& options, const CacheShape& shape) {
  const auto means = means_of(options);
  require_own_calibration(*means, options.statistics, means->queries.size(), shape);
  for (size_t l = 0; l < shape.layers; ++l) {
    if (means->queries[l].size() != shape.query_heads) {
      refuse_calibration(options.statistics,
                         fmt::format("layer {} has {} heads, but the model has {} query heads", l,
                                     means->queries[l].size(), shape.query_heads));
    }
  }
}

/// Distances to the queries to come: 1, 2, 4, ...
std::vector<size_t> offsets(const CompressionOptions& options) {
  std::vector<size_t> result;
  const auto farthest = static_cast<size_t>(own_whole(options, "offset_max"));
  for (size_t o = 1; o <= farthest; o *= 2) result.push_back(o);
  return result;
}

/// The means of a layer's query heads. Throws if they are not for this layer.
std::span<const QueryMeans> heads_of(const LayerObservation& layer, const Calibration& means,
                                     const CompressionOptions& options) {
  const size_t pairs = layer.rotations.front().cosine.size();
  const size_t first = layer.first_query_head;
  const bool there = layer.layer < means.queries.size() &&
                     means.queries[layer.layer].size() >= first + layer.queries.heads;
  if (!there || means.queries[layer.layer][first].real.size() != pairs) {
    throw Error(ErrorCode::kInput,
                fmt::format("statistics {} do not fit layer {} with {} query heads and {} rotated "
                            "pairs; make them with this model",
                            options.statistics, layer.layer, first + layer.queries.heads, pairs));
  }
  return std::span(means.queries[layer.layer]).subspan(first, layer.queries.heads);
}

/// |k_f| of every key and rotated pair: [n, pairs].
std::vector<float> pair_magnitudes(Matrix<const float> keys, const MeanRotation& rotation) {
  const size_t pairs = rotation.cosine.size();
  std::vector<float> result(keys.rows * pairs);
  for (size_t j = 0; j < keys.rows; ++j) {
    const float* key = keys.row(j);
    for (size_t f = 0; f < pairs; ++f) {
      const float a = key[rotation.halves ? f : 2 * f];
      const float b = key[rotation.halves ? f + pairs : 2 * f + 1];
      result[j * pairs + f] = std::sqrt(a * a + b * b);
    }
  }
  return result;
}

/// A head's mean query, rotated to a position to come.
std::vector<float> rotated_mean(const QueryMeans& head, const MeanRotation& rotation, size_t dim) {
  const size_t pairs = rotation.cosine.size();
  std::vector<float> query(dim, 0.0F);
  for (size_t f = 0; f < pairs; ++f) {
    query[rotation.halves ? f : 2 * f] = head.real[f];
    query[rotation.halves ? f + pairs : 2 * f + 1] = head.imaginary[f];
  }
  rotation.rotate(query.data());
  return query;
}

/// Scores of one query head, [n]: the product of a key with the mean query at the positions to
/// come, its mean or maximum over them, and the product of magnitudes that the mean does not show.
void score_head(const LayerObservation& layer, const CompressionOptions& options,
                const QueryMeans& head, Matrix<const float> keys, Matrix<const float> magnitudes,
                std::span<float> scores) {
  const bool largest = own_word(options, "over_offsets") == 1;
  std::vector<float> mean(keys.cols, 0.0F), products(keys.rows);
  if (largest) std::fill(scores.begin(), scores.end(), std::numeric_limits<float>::lowest());
  for (const MeanRotation& rotation : layer.rotations) {
    const std::vector<float> query = rotated_mean(head, rotation, keys.cols);
    if (!largest) {
      for (size_t c = 0; c < keys.cols; ++c) {
        mean[c] += query[c] / static_cast<float>(layer.rotations.size());
      }
      continue;
    }
    dot_products(keys, query, products);
    for (size_t j = 0; j < keys.rows; ++j) scores[j] = std::max(scores[j], products[j]);
  }
  if (!largest) dot_products(keys, mean, scores);
  const bool rest_only = own_switch(options, "mlr");
  const MeanRotation& any = layer.rotations.front();
  std::vector<float> weights(magnitudes.cols);
  for (size_t f = 0; f < weights.size(); ++f) {
    const float of_mean = std::hypot(head.real[f], head.imaginary[f]);
    // A scaling of the rotary embedding has been applied to the key, too.
    weights[f] =
        (head.magnitude[f] - (rest_only ? of_mean : 0.0F)) * std::hypot(any.cosine[f], any.sine[f]);
  }
  dot_products(magnitudes, weights, products);
  for (size_t j = 0; j < keys.rows; ++j) scores[j] += products[j];
}

/// Subtracts the mean and divides by the standard deviation.
void standardize_head(std::span<float> scores) {
  constexpr double kLeastDeviation = 1e-6;
  const auto count = static_cast<double>(scores.size());
  double sum = 0.0;
  for (const float x : scores) sum += double{x};
  const double mean = sum / count;
  double squares = 0.0;
  for (const float x : scores) squares += (double{x} - mean) * (double{x} - mean);
  const double deviation = std::max(std::sqrt(squares / count), kLeastDeviation);
  for (float& x : scores) x = static_cast<float>((double{x} - mean) / deviation);
}

LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* trace) {
  const size_t n = layer.keys.rows;
  const size_t end = before_window(layer, options);
  const size_t sinks = std::min(end, static_cast<size_t>(options.sinks));
  const size_t group = layer.queries.heads / layer.keys.heads;
  const auto means = means_of(options);
  const auto heads = heads_of(layer, *means, options);
  if (trace != nullptr) trace->raw.resize(layer.queries.heads);
  LayerScores scores =
      score_kv_heads(layer, options, end, [&](size_t kv_head, std::span<float> row) {
        const Matrix<const float> keys = layer.keys.head(kv_head);
        if (!all_finite(keys)) throw_not_finite(layer, kv_head, 1, 0);
        const std::vector<float> magnitudes = pair_magnitudes(keys, layer.rotations.front());
        std::vector<float> of_group(group * n);
        for (size_t g = 0; g < group; ++g) {
          const std::span<float> of_head(&of_group[g * n], n);
          score_head(layer, options, heads[kv_head * group + g], keys,
                     {magnitudes.data(), n, magnitudes.size() / n}, of_head);
          if (layer.bias.data != nullptr) {  // scores are in units before the softmax scale
            const float scale = softmax_scale(layer.scale, layer.keys.dim);
            for (size_t j = 0; j < n; ++j) of_head[j] += layer.bias.row(kv_head)[j] / scale;
          }
          if (trace != nullptr) {
            trace->raw[kv_head * group + g].assign(of_head.begin(), of_head.end());
          }
          if (own_switch(options, "standardize") && sinks < end) {
            standardize_head(of_head.subspan(sinks, end - sinks));
          }
        }
        reduce_group({of_group.data(), group, end, n}, options.group_reduce, row);
      });
  raise_sinks(scores, sinks);
  return scores;
}

}  // namespace

Method triattention_method() {
  Method method;
  method.name = "triattention";
  method.summary = "keys that the model's mean queries to come would attend to: for reasoning";
  method.paper =
      "TriAttention: Efficient Long Reasoning with Trigonometric KV Compression, arXiv 2604.04921";
  method.options = {"window", "sinks", "group_reduce", "per_query_head", "statistics"};
  method.own_options = {
      {"offset_max", "N", "farthest of the distances 1, 2, 4, ... to queries to come", 65536},
      {"over_offsets", "mean|max", "reduction over these distances", "mean"},
      {"standardize", "true|false", "bring the scores of query heads to one scale", true},
      {"mlr", "true|false", "magnitudes count as far as the mean query does not show them", true}};
  method.defaults.method = method.name;
  method.defaults.sinks = 0;
  method.defaults.group_reduce = GroupReduce::kMax;
  method.defaults.ada_normalize = false;  // as for every score that may be negative
  method.score_kind = ScoreKind::kSigned;
  method.needs_statistics = true;
  method.check = check;
  method.check_shape = check_shape;
  method.rotation_offsets = offsets;
  method.score = score;
  return method;
}

}  // namespace restkv
