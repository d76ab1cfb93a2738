#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "attention/softmax_scale.h"
#include "base/threads.h"
#include "compress/kv_scores.h"
#include "compress/method.h"
#include "compress/peak_attention.h"
#include "compress/window_scores.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/error.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

/// What a key's score is made of the attention that the reference queries pay it.
enum class KeyScore : size_t { kRms, kMean, kMax };

void check(const CompressionOptions& options) {
  check_window(options);
  check_protected(options, "sinks", options.sinks);
  check_pooling(options);
  const auto refuse = [](const std::string& message) {
    throw Error(ErrorCode::kInvalidArgument, message);
  };
  if (options.pooling == Pooling::kAdaptive) {
    refuse(
        "pooling is adaptive, which follows the rows of a window; method attention-matching takes "
        "none, average or max");
  }
  if (options.refit == Refit::kNone) {
    refuse(
        "refit is none, and method attention-matching selects for the queries that it names; let "
        "it be repeat or window");
  }
}

/// Sums over the reference queries of their attention to the power of 1 or 2, [query_heads, n]:
/// that power is attention with twice the logits and denominators.
std::vector<float> power_sums(const LayerObservation& layer, const RefitTargets& targets,
                              bool causal, bool squares) {
  const size_t n = layer.keys.rows;
  const float power = squares ? 2.0F : 1.0F;
  AlignedVector<float> lse = targets.lse;
  for (float& x : lse) x *= power;
  AlignedVector<float> bias;
  for (size_t h = 0; layer.bias.data != nullptr && h < layer.bias.rows; ++h) {
    for (const float x : layer.bias.row_span(h)) bias.push_back(power * x);
  }
  AttentionOptions options{.scale = power * softmax_scale(layer.scale, layer.keys.dim),
                           .softcap = power * layer.softcap,
                           .causal = causal};
  if (!bias.empty()) options.bias = {bias.data(), layer.keys.heads, n};
  std::vector<float> sums(targets.query_heads * n, 0.0F);
  attention_sums({targets.queries.data(), targets.query_heads, targets.count, targets.dim},
                 layer.keys, causal ? n - targets.count : 0, options,
                 {lse.data(), targets.query_heads, targets.count},
                 {sums.data(), targets.query_heads, n});
  return sums;
}

/// The largest attention to each of the first `candidates` rows, [query_heads, n].
std::vector<float> peaks(const LayerObservation& layer, const RefitTargets& targets, bool causal,
                         size_t candidates) {
  const size_t n = layer.keys.rows;
  std::vector<float> result(targets.query_heads * n, std::numeric_limits<float>::quiet_NaN());
  const size_t own = causal ? targets.count : 0;
  add_peak_attention(
      {.queries = {targets.queries.data(), targets.query_heads, targets.count, targets.dim},
       .own_keys = layer.keys.slice_rows(n - own, own),
       .own_values = layer.values.slice_rows(n - own, own),
       .keys = layer.keys.slice_rows(0, n - own),
       .values = layer.values.slice_rows(0, n - own),
       .bias = layer.bias,
       .begin = 0,
       .end = candidates,
       .scale = layer.scale,
       .softcap = layer.softcap,
       .sink_logits = layer.sink_logits,
       .layer = layer.layer,
       .first_query_head = layer.first_query_head},
      0, {}, {result.data(), targets.query_heads, n});
  return result;
}

/// Attention that the reference queries of `refit` pay each key; those of the window where there
/// was no repeat pass, as while an answer is written.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* trace) {
  CompressionOptions reference = options;
  if (layer.repeat_queries.rows == 0) reference.refit = Refit::kWindow;
  const bool causal = reference.refit == Refit::kWindow;
  const size_t n = layer.keys.rows;
  LayerScores scores(cache_heads(layer, options), causal ? before_window(layer, options) : n);
  if (scores.candidates == 0) return scores;
  const RefitTargets targets = refit_targets(layer, reference);
  const auto kind = static_cast<KeyScore>(own_word(options, "key_score"));
  const std::vector<float> sums = kind == KeyScore::kMax
                                      ? peaks(layer, targets, causal, scores.candidates)
                                      : power_sums(layer, targets, causal, kind == KeyScore::kRms);
  const size_t group = layer.queries.heads / scores.heads;
  const auto queries = static_cast<float>(group * targets.count);
  std::vector<std::vector<float>> raw(scores.heads);
  parallel_for(scores.heads, [&](size_t h, size_t) {
    std::vector<float>& row = raw[h];
    row.assign(scores.candidates, 0.0F);
    for (size_t g = 0; g < group; ++g) {
      const float* of_head = &sums[(h * group + g) * n];
      for (size_t j = 0; j < row.size(); ++j) {
        row[j] = kind == KeyScore::kMax ? std::max(row[j], of_head[j]) : row[j] + of_head[j];
      }
    }
    for (float& x : row) {
      if (kind != KeyScore::kMax) x /= queries;
      if (kind == KeyScore::kRms) x = std::sqrt(x);
    }
    smooth_row(options, std::nullopt, row, scores.rows().row_span(h));
  });
  if (trace != nullptr) {
    trace->raw = std::move(raw);
    for (size_t h = 0; h < scores.heads; ++h) {
      const auto row = scores.rows().row_span(h);
      trace->smoothed.emplace_back(row.begin(), row.end());
    }
  }
  raise_sinks(scores, std::min(scores.candidates, static_cast<size_t>(options.sinks)));
  return scores;
}

}  // namespace

Method attention_matching_method() {
  Method method;
  method.name = "attention-matching";
  method.summary = "keys that reference queries attend to, refitted to stand for the others";
  method.paper = "Attention Matching, arXiv 2602.16284";
  method.options = {"window", "sinks", "pooling", "kernel", "per_query_head"};
  method.own_options = {{"key_score", "rms|mean|max",
                         "what the attention of reference queries to a key becomes", "rms"}};
  method.defaults.method = method.name;
  method.defaults.pooling = Pooling::kNone;
  method.defaults.kernel = 5;
  method.defaults.refit = Refit::kRepeat;
  method.observed_queries = observe_window;
  method.check = check;
  method.score = score;
  return method;
}

}  // namespace restkv
