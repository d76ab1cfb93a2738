#include "compress/methods/compactor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

#include "compress/chunk_attention.h"
#include "compress/finite.h"
#include "compress/kv_scores.h"
#include "compress/method.h"
#include "compress/row_products.h"
#include "restkv/error.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

size_t recent_of(const CompressionOptions& options) {
  return static_cast<size_t>(own_whole(options, "recent"));
}

void check(const CompressionOptions& options) {
  const int recent = own_whole(options, "recent");
  for (const int count : {options.sinks, recent}) {
    if (count < 0) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format("sinks is {} and recent {}; they must be 0 or more", options.sinks, recent));
    }
  }
  check_protected(options, "sinks and recent", options.sinks + recent);
  check_sketch(options);
  if (const int length = own_whole(options, "chunk_length"); length < 1) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("chunk_length is {}; a chunk needs at least 1 position (256 is the "
                            "authors' value)",
                            length));
  }
  if (const double blending = own_real(options, "blending"); !(blending >= 0.0)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("blending is {}; the weight of leverage must be 0 or more (0.35 is the "
                            "authors' value)",
                            blending));
  }
}

/// Attention of each token within its chunk. Chunks begin behind the sinks and, in a longer prompt,
/// anew with every block. As published there is no factor 1/sqrt(d): logits are large, and stay in
/// float32 whatever the prompt's precision is.
void watch(const BlockObservation& block, const CompressionOptions& options,
           Matrix<float> watched) {
  const size_t n = watched.cols;
  const size_t end = std::min(block.end, n - std::min(n, recent_of(options)));
  const size_t begin = std::max(block.begin, static_cast<size_t>(options.sinks));
  if (begin >= end) return;
  const bool finite =
      chunk_attention_sums(block.queries.slice_rows(begin - block.begin, end - begin),
                           block.keys.slice_rows(begin, end - begin),
                           {.length = static_cast<size_t>(own_whole(options, "chunk_length")),
                            .softcap = block.softcap,
                            .sink_logits = block.sink_logits},
                           {watched.data + begin, watched.rows, end - begin, watched.stride});
  if (!finite) throw_not_finite(block);  // NaN would stand for what nobody has watched
}

/// Standardises the numbers that are not NaN, and replaces NaN by their mean, 0.
void standardize_known(std::span<float> values) {
  std::vector<float> known;
  for (const float x : values) {
    if (!std::isnan(x)) known.push_back(x);
  }
  standardize(known);
  auto next = known.begin();
  for (float& x : values) x = std::isnan(x) ? 0.0F : *next++;
}

LayerScores score(const LayerObservation& layer, const CompressionOptions& options,
                  SelectionTrace*) {
  return compactor_scores(
      layer, options,
      gaussian_sketches(layer, static_cast<size_t>(own_whole(options, "sketch")),
                        static_cast<uint64_t>(own_whole(options, "random_seed"))));
}

}  // namespace

std::vector<float> noncausal_scores(const LayerObservation& layer, size_t first, size_t end) {
  const size_t count = end - first;
  const size_t group = layer.watched.rows / layer.keys.heads;
  std::vector<float> scores(layer.keys.heads * count);
  std::vector<float> weighed(count), squares(count);
  for (size_t h = 0; h < layer.keys.heads; ++h) {
    const std::span<float> row(&scores[h * count], count);
    reduce_group({layer.watched.row(h * group) + first, group, count, layer.watched.stride},
                 GroupReduce::kMean, weighed);
    square_norms(layer.values.head(h).slice(first, count), squares);
    std::vector<bool> unknown(count);
    for (size_t j = 0; j < count; ++j) {
      unknown[j] = std::isnan(weighed[j]);
      weighed[j] = unknown[j] ? 0.0F : weighed[j] * std::sqrt(squares[j]);
    }
    smooth(weighed, Pooling::kAverage, {.kernel = 3}, row);
    for (size_t j = 0; j < count; ++j) {
      if (unknown[j]) row[j] = std::numeric_limits<float>::quiet_NaN();
    }
  }
  return scores;
}

LayerScores compactor_scores(const LayerObservation& layer, const CompressionOptions& options,
                             const Sketches& sketches) {
  const size_t n = layer.keys.rows;
  const size_t end = n - std::min(n, recent_of(options));
  const size_t sinks = std::min(end, static_cast<size_t>(options.sinks));
  const size_t count = end - sinks;
  for (size_t h = 0; h < layer.keys.heads; ++h) {  // NaN would spread to all heads
    if (!all_finite(layer.unrotated_keys.head(h)) || !all_finite(layer.values.head(h))) {
      throw_not_finite(layer, h, 1, 0);
    }
  }
  std::vector<float> attention = noncausal_scores(layer, sinks, end);
  standardize_known(attention);
  const std::vector<float> leverage =
      standardized_leverage(layer.unrotated_keys.slice_rows(sinks, count), sketches);
  const auto blending = static_cast<float>(own_real(options, "blending"));
  float largest = std::numeric_limits<float>::lowest();
  for (size_t i = 0; i < attention.size(); ++i) {
    attention[i] += blending * leverage[i];
    largest = std::max(largest, attention[i]);
  }
  return score_kv_heads(layer, options, end, [&](size_t kv_head, std::span<float> row) {
    // Sinks win against every other position of every head.
    std::fill_n(row.begin(), sinks, count > 0 ? largest + 1.0F : 0.0F);
    std::copy_n(&attention[kv_head * count], count, row.begin() + static_cast<ptrdiff_t>(sinks));
  });
}

Method compactor_method() {
  Method method;
  method.name = "compactor";
  method.summary = "leverage of keys, and attention within chunks that look both ways";
  method.paper =
      "Compactor: Calibrated Query-Agnostic KV Cache Compression with Approximate Leverage "
      "Scores, arXiv 2507.08143";
  method.options = {"sinks", "per_query_head"};
  method.own_options = {
      {"recent", "N", "last tokens, always kept", 4},
      {"chunk_length", "N", "positions per chunk (finch: 0 for no chunks)", 256},
      {"blending", "X", "weight of leverage beside attention within chunks", 0.35},
      {"sketch", "N", "columns of the random projection of the keys", 48},
      {"random_seed", "N", "start of the random numbers", 0}};
  method.defaults.method = method.name;
  method.defaults.sinks = 8;
  method.defaults.ada_normalize = false;  // as for every score that may be negative
  method.score_kind = ScoreKind::kSigned;
  method.check = check;
  method.needs_unrotated_keys = [](const CompressionOptions&) { return true; };
  method.watched_tokens = [](const CompressionOptions&) { return WatchedTokens::kContext; };
  method.watch = watch;
  method.score = score;
  return method;
}

}  // namespace restkv
