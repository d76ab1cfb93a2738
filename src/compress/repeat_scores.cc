#include "compress/repeat_scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstdint>
#include <vector>

#include "compress/kv_scores.h"
#include "compress/method.h"
#include "restkv/error.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

/// Scores of tokens that are kept whatever the others score: far above weights of attention, and
/// these times norms.
constexpr float kSink = 1e33F;
/// The same for tokens that were not repeated; the newest have the largest.
float recent_score(size_t row) {
  constexpr float kRecent = 1e30F;
  return std::bit_cast<float>(std::bit_cast<uint32_t>(kRecent) + static_cast<uint32_t>(row));
}

/// Smooths the scores of tokens that were repeated.
void smooth_repeated(const CompressionOptions& options, std::span<float> scores) {
  if (options.pooling == Pooling::kNone) return;
  const auto has_score = [](float x) { return x >= 0.0F; };
  const auto first = std::ranges::find_if(scores, has_score);
  const auto end = std::find_if_not(first, scores.end(), has_score);
  const std::span<float> repeated(first, end);
  if (repeated.empty()) return;
  const std::vector<float> raw(repeated.begin(), repeated.end());
  if (options.kernel == kAutoKernel) {
    smooth_two_scales(raw, options.pooling, {.kernel = kNeighbourhood}, raw.size(), repeated);
  } else {
    smooth(raw, options.pooling, {.kernel = options.kernel}, repeated);
  }
}

/// Gives tokens without a score one.
void fill_gaps(const CompressionOptions& options, std::span<float> scores) {
  const auto has_score = [](float x) { return x >= 0.0F && x < recent_score(0); };
  const auto first = static_cast<size_t>(std::ranges::find_if(scores, has_score) - scores.begin());
  const bool repeated = first < scores.size();
  const float prefix = own_switch(options, "keep_prefix") ? kSink : 0.0F;
  for (size_t n = 0; n < scores.size(); ++n) {
    if (n < static_cast<size_t>(options.sinks)) {
      scores[n] = kSink;
    } else if (repeated && n < first) {
      scores[n] = prefix;
    } else if (!has_score(scores[n])) {
      scores[n] = recent_score(n);
    }
  }
}

}  // namespace

std::vector<OwnOption> repeat_options() {
  return {
      {kRepeatChunk, "N", "tokens that are repeated at a time", 512},
      {kRepeatSees, "all|chunk",
       "what these tokens attend to: the whole prompt, or its first tokens and the chunk", "chunk"},
      {"keep_prefix", "true|false",
       "keep what the chat template puts before the prompt, which is not repeated", true}};
}

CompressionOptions with_authors_repeat(CompressionOptions options) {
  options.own[std::string(kRepeatChunk)] = 2048;
  options.own[std::string(kRepeatSees)] = std::string("all");
  return options;
}

void check_repeat(const CompressionOptions& options) {
  check_protected(options, "sinks", options.sinks);
  check_pooling(options);
  if (options.pooling == Pooling::kAdaptive) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("pooling is adaptive, which follows an observation window, but method "
                            "{} has none; use none, average or max",
                            options.method));
  }
  constexpr int kLeast = 8;  // shorter ones would be fewer than the words around them
  if (const int chunk = own_whole(options, kRepeatChunk); chunk < kLeast) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("repeat_chunk is {}; at least {} tokens are repeated at a time (2048 "
                            "is usual)",
                            chunk, kLeast));
  }
  if (options.allocation.starts_with("ada") && options.ada_normalize) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("ada_normalize weighs heads by the sum of their scores, but the sinks "
                            "of method {} are beyond all scores; set ada_normalize to false",
                            options.method));
  }
}

LayerScores repeat_scores(const LayerObservation& layer, const CompressionOptions& options,
                          GroupReduce reduce, FunctionRef<void(size_t, std::span<float>)> weigh) {
  const size_t n = layer.keys.rows;
  LayerScores scores(cache_heads(layer, options), n);
  const size_t group = layer.queries.heads / scores.heads;
  parallel_for(scores.heads, [&](size_t head, size_t) {
    std::vector<float> numbers(group * n);
    const Matrix<float> rows(numbers.data(), group, n);
    for (size_t g = 0; g < group; ++g) {
      std::ranges::copy(layer.watched.row_span(head * group + g), rows.row(g));
      weigh(head * group + g, rows.row_span(g));
      smooth_repeated(options, rows.row_span(g));
    }
    const auto row = scores.rows().row_span(head);
    reduce_group(rows, reduce, row);
    fill_gaps(options, row);
  });
  return scores;
}

}  // namespace restkv
