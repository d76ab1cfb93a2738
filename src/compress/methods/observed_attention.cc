#include <algorithm>

#include "compress/kv_scores.h"
#include "compress/method.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

/// Mean attention over the queries that saw the position, averaged over the group.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  const size_t n = layer.keys.rows;
  const size_t group = layer.queries.heads / layer.keys.heads;
  const Matrix<const float> sums = layer.attention_sums;
  return score_kv_heads(layer, options, n, [&](size_t kv_head, std::span<float> row) {
    reduce_group({sums.row(kv_head * group), group, n, sums.stride}, GroupReduce::kMean, row);
    for (size_t j = 0; j < n; ++j) row[j] /= static_cast<float>(n - j);
  });
}

}  // namespace

Method observed_attention_method() {
  Method method;
  method.name = "observed-attention";
  method.summary = "mean attention over all queries that saw the position";
  method.paper = "ObservedAttentionPress of NVIDIA kvpress";
  method.options = {"per_query_head"};
  method.defaults.method = method.name;
  method.check = [](const CompressionOptions& options) { check_protected(options, "sinks", 0); };
  method.needs_attention_sums = [](const CompressionOptions&) { return true; };
  method.score = score;
  return method;
}

}  // namespace restkv
