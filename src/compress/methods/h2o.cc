#include <algorithm>
#include <limits>
#include <vector>

#include "compress/method.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

/// Column sums of the attention matrix of all prompt queries, [query_heads, n]. All queries but the
/// last `window` see the whole prompt, future included.
AlignedVector<float> acausal_sums(const LayerObservation& layer, size_t window) {
  constexpr size_t kBlock = 512;
  const size_t n = layer.keys.rows;
  const size_t heads = layer.queries.heads;
  const auto queries = layer.queries.slice_rows(layer.queries.rows - n, n);
  AlignedVector<float> sums(heads * n);
  AlignedVector<float> lse(heads * kBlock);
  AlignedVector<float> out(heads * kBlock * layer.values.dim);
  std::fill(sums.begin(), sums.end(), 0.0F);
  for (size_t first = 0; first < n;) {
    const bool causal = first >= n - window;
    const size_t rows = std::min(kBlock, (causal ? n : n - window) - first);
    const AttentionOptions options{.scale = layer.scale,
                                   .softcap = layer.softcap,
                                   .causal = causal,
                                   .sink_logits = layer.sink_logits};
    const auto block = queries.slice_rows(first, rows);
    const Matrix<float> denominators(lse.data(), heads, rows);
    prefill_attention(block, layer.keys, layer.values, first, options,
                      {out.data(), heads, rows, layer.values.dim}, denominators);
    attention_sums(block, layer.keys, first, options, denominators, {sums.data(), heads, n});
    first += rows;
  }
  return sums;
}

/// As in ReST-KV's published baseline, all queries but the last `window` see the whole prompt,
/// future included. For comparisons only; keeps all queries of a layer in memory.
bool is_acausal(const CompressionOptions& options) { return own_switch(options, "acausal"); }

/// Attention accumulated over all queries of the prompt.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* trace) {
  const size_t past = before_window(layer, options);
  AlignedVector<float> own;
  Matrix<const float> sums = layer.attention_sums;
  if (is_acausal(options)) {
    own = acausal_sums(layer, layer.keys.rows - past);
    sums = {own.data(), layer.queries.heads, layer.keys.rows};
  }
  LayerScores scores(cache_heads(layer, options), past);
  const size_t group = layer.queries.heads / scores.heads;
  for (size_t h = 0; h < scores.heads; ++h) {
    const Matrix<const float> rows(sums.row(h * group), group, past, sums.stride);
    reduce_group(rows, options.group_reduce, scores.rows().row_span(h));
    if (trace == nullptr) continue;
    const auto row = scores.rows().row_span(h);
    trace->raw.emplace_back(row.begin(), row.end());
  }
  return scores;
}

}  // namespace

Method h2o_method() {
  Method method;
  method.name = "h2o";
  method.summary = "attention accumulated over all queries of the prompt, and the recent tokens";
  method.paper =
      "H2O: Heavy-Hitter Oracle for Efficient Generative Inference of Large Language Models, arXiv "
      "2306.14048";
  method.options = {"window", "group_reduce", "per_query_head"};
  method.own_options = {{"acausal", "true|false",
                         "let queries before the window see the future, as published", false}};
  method.defaults.method = method.name;
  method.check = check_window;
  method.observed_queries = [](const CompressionOptions& options) {
    return is_acausal(options) ? kAllQueries : size_t{0};
  };
  method.needs_attention_sums = [](const CompressionOptions& options) {
    return !is_acausal(options);
  };
  method.score = score;
  return method;
}

}  // namespace restkv
