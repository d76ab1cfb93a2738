#include <algorithm>
#include <cmath>
#include <vector>

#include "compress/kv_scores.h"
#include "compress/method.h"
#include "compress/row_products.h"

namespace restkv {
namespace {

/// Minus the cosine between a key and the mean direction of the head's keys.
void score_head(Matrix<const float> keys, std::span<float> scores) {
  constexpr float kLeastNorm = 1e-12F;
  std::vector<float> lengths(keys.rows);
  square_norms(keys, lengths);
  for (float& x : lengths) x = std::max(std::sqrt(x), kLeastNorm);
  std::vector<double> sum(keys.cols, 0.0);
  for (size_t j = 0; j < keys.rows; ++j) {
    for (size_t c = 0; c < keys.cols; ++c) sum[c] += double{keys.row(j)[c] / lengths[j]};
  }
  double norm = 0.0;
  for (const double x : sum) norm += x * x;
  norm = std::max(std::sqrt(norm), double{kLeastNorm});
  std::vector<float> direction(keys.cols);
  for (size_t c = 0; c < keys.cols; ++c) direction[c] = static_cast<float>(sum[c] / norm);
  dot_products(keys, direction, scores);
  for (size_t j = 0; j < keys.rows; ++j) scores[j] /= -lengths[j];
}

LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  return score_keys_and_values(
      layer, options, [](Matrix<const float> keys, Matrix<const float>, std::span<float> row) {
        score_head(keys, row);
      });
}

}  // namespace

Method keydiff_method() {
  Method method;
  method.name = "keydiff";
  method.summary = "keys that differ from the mean direction";
  method.paper =
      "KeyDiff: Key Similarity-Based KV Cache Eviction for Long-Context LLM Inference in "
      "Resource-Constrained Environments, arXiv 2504.15364";
  method.options = {"block_size", "per_query_head"};
  method.defaults.method = method.name;
  method.score_kind = ScoreKind::kSigned;
  method.defaults.ada_normalize = false;  // as for every score that may be negative
  method.check = [](const CompressionOptions& options) {
    check_protected(options, "sinks", 0);
    check_blocks(options);
  };
  method.score = score;
  return method;
}

}  // namespace restkv
