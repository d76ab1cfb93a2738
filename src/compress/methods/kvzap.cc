#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <vector>

#include "compress/calibration.h"
#include "compress/finite.h"
#include "compress/kv_scores.h"
#include "compress/method.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Of tokens that are kept whatever the others score, which are logarithms of weights.
constexpr float kSink = 1e33F;

/// The file that the option names. Throws if it has no maps.
std::shared_ptr<const Calibration> maps_of(const CompressionOptions& options) {
  return require_calibration(options, &Calibration::scores, R"("kvzap", which predicts scores)");
}

void check(const CompressionOptions& options) {
  check_window_and_sinks(options);
  (void)maps_of(options);
}

void check_shape(const CompressionOptions& options, const CacheShape& shape) {
  const auto maps = maps_of(options);
  require_own_calibration(*maps, options.statistics, maps->scores.size(), shape);
  for (size_t l = 0; l < shape.layers; ++l) {
    const ScoreMap& map = maps->scores[l];
    if (map.heads() != shape.kv_heads || (shape.width > 0 && map.width != shape.width)) {
      refuse_calibration(
          options.statistics,
          fmt::format("layer {} of kvzap has {} heads and reads {} channels, but the model has {} "
                      "KV heads and {} channels",
                      l, map.heads(), map.width, shape.kv_heads, shape.width));
    }
  }
}

/// Predicts the scores of a block's tokens from what their layer reads.
void watch(const BlockObservation& block, const CompressionOptions& options,
           Matrix<float> watched) {
  const auto maps = maps_of(options);
  const size_t query_heads = std::max(block.query_heads, block.queries.heads);
  if (block.layer >= maps->scores.size() || query_heads % maps->scores[block.layer].heads() != 0 ||
      maps->scores[block.layer].width != block.inputs.cols) {
    refuse_calibration(options.statistics,
                       fmt::format("they do not fit layer {} with {} query heads that reads {} "
                                   "channels",
                                   block.layer, query_heads, block.inputs.cols));
  }
  // A cache head may be a KV head or, with `per_query_head`, one of its query heads.
  const ScoreMap& map = maps->scores[block.layer];
  const size_t group = query_heads / map.heads();
  const size_t first = block.first_query_head / group;
  const size_t heads = (block.first_query_head + block.queries.heads - 1) / group - first + 1;
  thread_local std::vector<float> storage;  // for tokens that are decoded one by one
  storage.resize(heads * block.inputs.rows);
  const Matrix<float> scores(storage.data(), heads, block.inputs.rows);
  map.predict(block.inputs, first, scores);
  for (size_t h = 0; h < heads; ++h) {
    if (!all_finite(scores.slice(h, 1))) {  // NaN would stand for what nobody has watched
      throw Error(ErrorCode::kInput,
                  fmt::format("layer {} reads NaN, infinity or far too large numbers near position "
                              "{}; the model's file is probably damaged",
                              block.layer, block.begin));
    }
  }
  // The numbers of a row go with each query head of its KV head.
  for (size_t h = 0; h < block.queries.heads; ++h) {
    const size_t kv_head = (block.first_query_head + h) / group - first;
    std::ranges::copy(scores.row_span(kv_head), watched.row(h) + block.begin);
  }
}

LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  const size_t end = before_window(layer, options);
  const size_t sinks = std::min(end, static_cast<size_t>(options.sinks));
  const size_t group = layer.watched.rows / layer.keys.heads;
  return score_kv_heads(layer, options, end, [&](size_t kv_head, std::span<float> row) {
    const auto numbers = layer.watched.row_span(kv_head * group).first(end);
    for (size_t j = 0; j < end; ++j) {
      if (!std::isfinite(numbers[j])) {
        throw Error(
            ErrorCode::kInput,
            fmt::format("row {} of layer {}, KV head {} has the score {}; kvzap predicts "
                        "it when the token is read, so read the text again",
                        j, layer.layer, layer.first_query_head / group + kv_head, numbers[j]));
      }
      row[j] = j < sinks ? kSink : numbers[j];
    }
  });
}

}  // namespace

Method kvzap_method() {
  Method method;
  method.name = "kvzap";
  method.summary = "what kvzip-plus would score, predicted from what the layer reads";
  method.paper = "KVzap: Fast, Adaptive, and Faithful KV Cache Pruning, arXiv 2601.07891";
  method.options = {"window", "sinks", "statistics"};
  method.own_options = {{"threshold", "X|none",
                         "tokens with a lower score are dropped even if there is room",
                         std::string("none")}};
  method.defaults.method = method.name;
  method.defaults.allocation = "global";
  method.defaults.ada_floor = 0;
  method.defaults.ada_normalize = false;  // as for every score that may be negative
  method.score_kind = ScoreKind::kSigned;
  method.needs_statistics = true;
  method.least_score = [](const CompressionOptions& options) {
    return own_real_if_any(options, "threshold");
  };
  method.check = check;
  method.check_shape = check_shape;
  method.watched_tokens = [](const CompressionOptions&) { return WatchedTokens::kAll; };
  method.watch = watch;
  method.score = score;
  return method;
}

}  // namespace restkv
