#include "compress/leverage.h"

#include <algorithm>

#include "compress/finite.h"
#include "compress/kv_scores.h"
#include "compress/method.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options) {
  check_protected(options, "sinks", 0);
  check_sketch(options);
}

/// Leverage of the keys before rotary embedding.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  const size_t n = layer.keys.rows;
  for (size_t h = 0; h < layer.keys.heads; ++h) {  // NaN would spread to all heads
    if (!all_finite(layer.unrotated_keys.head(h))) throw_not_finite(layer, h, 1, 0);
  }
  const Sketches sketches =
      gaussian_sketches(layer, static_cast<size_t>(own_whole(options, "sketch")),
                        static_cast<uint64_t>(own_whole(options, "random_seed")));
  const std::vector<float> scores = standardized_leverage(layer.unrotated_keys, sketches);
  return score_kv_heads(layer, options, n, [&](size_t kv_head, std::span<float> row) {
    std::copy_n(&scores[kv_head * n], n, row.begin());
  });
}

}  // namespace

Method leverage_method() {
  Method method;
  method.name = "leverage";
  method.summary = "keys that the other keys cannot stand for";
  method.paper =
      "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage "
      "Scores, arXiv 2507.08143";
  method.options = {"per_query_head"};
  method.own_options = {{"sketch", "N", "columns of the random projection of the keys", 48},
                        {"random_seed", "N", "start of the random numbers", 0}};
  method.defaults.method = method.name;
  method.defaults.ada_normalize = false;  // as for every score that may be negative
  method.score_kind = ScoreKind::kSigned;
  method.check = check;
  method.needs_unrotated_keys = [](const CompressionOptions&) { return true; };
  method.score = score;
  return method;
}

}  // namespace restkv
