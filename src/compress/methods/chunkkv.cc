#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <vector>

#include "compress/finite.h"
#include "compress/method.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Methods that score the positions of chunks: the words of `chunk_score`.
constexpr std::array kInner{"snapkv", "restkv", "keydiff", "knorm"};

/// Options of the method that scores positions.
CompressionOptions inner_options(const CompressionOptions& options) {
  CompressionOptions inner = default_options(kInner.at(own_word(options, "chunk_score")));
  inner.budget = options.budget;
  inner.window = options.window;
  inner.pooling = options.pooling;
  inner.kernel = options.kernel;
  inner.drift_scale = options.drift_scale;
  inner.group_reduce = options.group_reduce;
  inner.reduce_before_pooling = options.reduce_before_pooling;
  return inner;
}

void check(const CompressionOptions& options) {
  const int length = own_whole(options, "chunk_length");
  if (length < 1) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("chunk_length is {}; a chunk needs at least 1 position (20 is usual)", length));
  }
  const CompressionOptions inner = inner_options(options);
  find_method(inner.method).check(inner);
  if (options.budget < length) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("budget {} holds no chunk of {} positions; raise the budget or lower "
                            "chunk_length",
                            options.budget, length));
  }
}

/// Scores of all positions, [kv_heads, n]. Those that the inner method protects beat all others of
/// the layer.
LayerScores score_positions(const LayerObservation& layer, const CompressionOptions& inner) {
  const size_t n = layer.keys.rows;
  const LayerScores scored = find_method(inner.method).score(layer, inner, nullptr);
  if (!all_finite(scored.rows())) {
    throw_not_finite(layer, 0, layer.keys.heads, std::min(observed_queries(inner), n));
  }
  float largest = scored.values.empty() ? 0.0F : std::numeric_limits<float>::lowest();
  for (const float x : scored.values) largest = std::max(largest, x);
  LayerScores scores(layer.keys.heads, n);
  for (size_t h = 0; h < scores.heads; ++h) {
    const auto row = scores.rows().row_span(h);
    std::fill(std::ranges::copy(scored.rows().row_span(h), row.begin()).out, row.end(),
              largest + 1.0F);
  }
  return scores;
}

/// The mean over a chunk of the sums over KV heads, for every position of the chunk.
LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace* trace) {
  const LayerScores positions = score_positions(layer, inner_options(options));
  const size_t n = positions.candidates;
  LayerScores scores(cache_heads(layer, options), n);
  scores.chunk = static_cast<size_t>(own_whole(options, "chunk_length"));
  for (size_t begin = 0; begin < n; begin += scores.chunk) {
    const size_t length = std::min(scores.chunk, n - begin);
    double sum = 0.0;
    for (size_t h = 0; h < positions.heads; ++h) {
      for (const float x : positions.rows().row_span(h).subspan(begin, length)) sum += double{x};
    }
    for (size_t h = 0; h < scores.heads; ++h) {
      std::fill_n(scores.rows().row(h) + begin, length,
                  static_cast<float>(sum / static_cast<double>(length)));
    }
  }
  for (size_t h = 0; trace != nullptr && h < positions.heads; ++h) {
    const auto row = positions.rows().row_span(h);
    trace->raw.emplace_back(row.begin(), row.end());
  }
  return scores;
}

}  // namespace

Method chunkkv_method() {
  Method method;
  method.name = "chunkkv";
  method.summary = "whole chunks of neighbouring positions, the same in all heads";
  method.paper =
      "ChunkKV: Semantic-Preserving KV Cache Compression for Efficient Long-Context LLM "
      "Inference, arXiv 2502.00299";
  method.options = {"window",        "pooling",      "kernel",
                    "drift_scale",   "group_reduce", "reduce_before_pooling",
                    "per_query_head"};
  method.own_options = {{"chunk_length", "N", "positions per chunk (finch: 0 for no chunks)", 20},
                        {"chunk_score", "snapkv|restkv|keydiff|knorm",
                         "method whose scores a chunk averages", "snapkv"}};
  for (const std::string_view option : method.options) {
    if (option == "per_query_head") continue;
    method.conditions.push_back({option, "chunk_score", [](const CompressionOptions& options) {
                                   return observed_queries(inner_options(options)) > 0;
                                 }});
  }
  method.defaults = snapkv_method().defaults;
  method.defaults.method = method.name;
  // A chunk has one score for all heads, which are not to compete for it.
  method.score_kind = ScoreKind::kRank;
  method.check = check;
  method.observed_queries = [](const CompressionOptions& options) {
    return observed_queries(inner_options(options));
  };
  method.observed_outputs = [](const CompressionOptions& options) {
    return observed_outputs(inner_options(options));
  };
  method.needs_output = [](const CompressionOptions& options) {
    return needs_output_factor(inner_options(options));
  };
  method.score = score;
  return method;
}

}  // namespace restkv
