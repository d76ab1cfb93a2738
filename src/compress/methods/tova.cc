#include <algorithm>
#include <vector>

#include "compress/kv_scores.h"
#include "compress/method.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

void check(const CompressionOptions& options) {
  check_protected(options, "window", options.window);
}

/// Attention of the last query, averaged over all query heads of the layer.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* trace) {
  const size_t n = layer.keys.rows;
  std::vector<float> mean(n, 0.0F);
  WindowAttention attention;
  for (size_t kv_head = 0; kv_head < layer.keys.heads; ++kv_head) {
    attention.observe(layer, kv_head, 1);
    for (size_t g = 0; g < attention.group(); ++g) {
      const float* weights = attention.rows().row(g);
      for (size_t j = 0; j < n; ++j) mean[j] += weights[j];
    }
  }
  for (float& x : mean) x /= static_cast<float>(layer.queries.heads);
  if (trace != nullptr) trace->raw = {mean};
  return score_kv_heads(
      layer, options, before_window(layer, options),
      [&](size_t, std::span<float> row) { std::copy_n(mean.begin(), row.size(), row.begin()); });
}

}  // namespace

Method tova_method() {
  Method method;
  method.name = "tova";
  method.summary = "attention of the last query, averaged over the layer's heads";
  method.paper = "Transformers are Multi-State RNNs, arXiv 2401.06104";
  method.options = {"window", "per_query_head"};
  method.defaults.method = method.name;
  // The authors' code may evict even the newest token; NVIDIA kvpress protects it (window 1).
  method.defaults.window = 0;
  method.check = check;
  method.observed_queries = [](const CompressionOptions&) -> size_t { return 1; };
  method.score = score;
  return method;
}

}  // namespace restkv
