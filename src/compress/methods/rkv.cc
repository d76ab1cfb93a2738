#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "attention/softmax_scale.h"
#include "base/threads.h"
#include "compress/finite.h"
#include "compress/kv_scores.h"
#include "compress/method.h"
#include "compress/row_products.h"
#include "compress/window_scores.h"
#include "restkv/aligned.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Keys whose cosine is above this say the same.
constexpr float kSimilar = 0.5F;
/// Rows of a task, and keys that are compared at once.
constexpr size_t kBlock = 64;

void check(const CompressionOptions& options) {
  check_window(options);
  check_pooling(options);
  const double lambda = own_real(options, "mix_lambda");
  if (!(lambda >= 0.0 && lambda <= 1.0)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("mix_lambda is {}; the weight of attention against redundancy must be "
                            "between 0 and 1 (0.07 is the authors' value)",
                            lambda));
  }
}

/// Attention of the window: the softmax over past positions of each row's largest logits among the
/// group's query heads, averaged over the rows. Throws on logits that are not finite.
std::vector<float> window_attention(const LayerObservation& layer, size_t kv_head, size_t window,
                                    size_t past) {
  const size_t group = layer.queries.heads / layer.keys.heads;
  const float scale = softmax_scale(layer.scale, layer.keys.dim);
  const Matrix<const float> keys = layer.keys.head(kv_head).slice(0, past);
  std::vector<float> mean(past, 0.0F), largest(past), logits(past);
  std::optional<float> sink;
  if (!layer.sink_logits.empty()) {
    sink = std::ranges::max(layer.sink_logits.subspan(kv_head * group, group));
  }
  for (size_t r = layer.queries.rows - window; r < layer.queries.rows; ++r) {
    for (size_t g = 0; g < group; ++g) {
      dot_products(keys, {layer.queries.row(kv_head * group + g, r), keys.cols}, logits);
      // The maximum would hide NaN.
      if (!all_finite({logits.data(), 1, past})) throw_not_finite(layer, kv_head, 1, window);
      for (size_t j = 0; j < past; ++j) {
        largest[j] = g == 0 ? logits[j] : std::max(largest[j], logits[j]);
      }
    }
    for (float& z : largest) {
      z *= scale;
      if (layer.softcap > 0) z = layer.softcap * std::tanh(z / layer.softcap);
    }
    if (layer.bias.data != nullptr) {
      for (size_t j = 0; j < past; ++j) largest[j] += layer.bias.row(kv_head)[j];
    }
    softmax(largest, sink);
    for (size_t j = 0; j < past; ++j) mean[j] += largest[j] / static_cast<float>(window);
  }
  return mean;
}

/// For row i of unit vectors, the last other row whose cosine is above kSimilar; the first row
/// without one. `cosine` is that of both.
size_t last_similar(Matrix<const float> unit, size_t i, float& cosine) {
  float products[kBlock];
  for (size_t end = unit.rows; end > 0;) {
    const size_t begin = end - std::min(end, kBlock);
    const std::span<float> cosines(products, end - begin);
    dot_products(unit.slice(begin, end - begin), unit.row_span(i), cosines);
    for (size_t j = end; j-- > begin;) {
      cosine = cosines[j - begin];
      if (j != i && (cosine > kSimilar || j == 0)) return j;
    }
    end = begin;
  }
  cosine = 0.0F;  // the first row itself
  return i;
}

/// Redundancy of every key: the softmax of its mean cosine to the others. Of the keys that are
/// similar to a key one counts as its representative, and is not redundant for it.
std::vector<float> redundancy(Matrix<const float> keys, bool last) {
  constexpr float kLeastNorm = 1e-8F;
  const size_t n = keys.rows;
  const size_t dim = keys.cols;
  std::vector<float> squares(n);
  square_norms(keys, squares);
  AlignedVector<float> storage(n * dim);
  const Matrix<float> unit(storage.data(), n, dim);
  std::vector<double> sum(dim, 0.0);
  for (size_t j = 0; j < n; ++j) {
    const float length = std::sqrt(squares[j]) + kLeastNorm;
    for (size_t c = 0; c < dim; ++c) {
      unit.row(j)[c] = keys.row(j)[c] / length;
      sum[c] += double{unit.row(j)[c]};
    }
  }
  // Sums of cosines to all keys, less that to itself.
  const std::vector<float> all(sum.begin(), sum.end());
  std::vector<float> sums(n);
  dot_products(unit, all, sums);
  square_norms(unit, squares);
  for (size_t j = 0; j < n; ++j) sums[j] -= squares[j];

  std::vector<size_t> representative(n, 0);
  std::vector<float> cosine(n, 0.0F);
  if (last) {
    parallel_for((n + kBlock - 1) / kBlock, [&](size_t task, size_t) {
      for (size_t i = task * kBlock; i < std::min(n, (task + 1) * kBlock); ++i) {
        representative[i] = last_similar(unit, i, cosine[i]);
      }
    });
  } else {
    dot_products(unit, unit.row_span(0), cosine);
    cosine[0] = 0.0F;
  }
  for (size_t i = 0; i < n; ++i) sums[representative[i]] -= cosine[i];
  for (float& x : sums) x /= static_cast<float>(n);
  softmax(sums);
  return sums;
}

/// Attention of the window less the redundancy of the key.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* trace) {
  const size_t past = before_window(layer, options);
  const auto window = static_cast<size_t>(options.window);
  const auto lambda = static_cast<float>(own_real(options, "mix_lambda"));
  const bool last = own_word(options, "representative") == 0;
  CompressionOptions pooled = options;
  pooled.pooling = Pooling::kMax;
  LayerScores scores(cache_heads(layer, options), past);
  if (past == 0) return scores;
  const size_t repeat = scores.heads / layer.keys.heads;
  for (size_t kv_head = 0; kv_head < layer.keys.heads; ++kv_head) {
    std::vector<float> attention(past);
    smooth_row(pooled, std::nullopt, window_attention(layer, kv_head, window, past), attention);
    const std::vector<float> redundant = redundancy(layer.keys.head(kv_head), last);
    for (size_t h = kv_head * repeat; h < (kv_head + 1) * repeat; ++h) {
      for (size_t j = 0; j < past; ++j) {
        scores.rows().row(h)[j] = lambda * attention[j] - (1.0F - lambda) * redundant[j];
      }
    }
    if (trace == nullptr) continue;
    trace->smoothed.push_back(std::move(attention));
    trace->raw.emplace_back(redundant.begin(), redundant.begin() + static_cast<ptrdiff_t>(past));
  }
  return scores;
}

}  // namespace

Method rkv_method() {
  Method method;
  method.name = "rkv";
  method.summary = "attention of the last queries, less the redundancy of the key: for reasoning";
  method.paper =
      "R-KV: Redundancy-aware KV Cache Compression for Reasoning Models, arXiv 2505.24133";
  method.options = {"window", "kernel", "per_query_head"};
  method.own_options = {
      {"mix_lambda", "X", "weight of attention against redundancy", 0.07},
      {"representative", "last|first", "which of similar keys is not redundant", "last"}};
  method.defaults.method = method.name;
  method.defaults.window = 8;
  method.defaults.pooling = Pooling::kMax;
  method.defaults.kernel = 7;
  method.defaults.ada_normalize = false;  // as for every score that may be negative
  method.score_kind = ScoreKind::kSigned;
  method.observed_queries = observe_window;
  method.check = check;
  method.score = score;
  return method;
}

}  // namespace restkv
