#include "compress/kv_scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "compress/method.h"
#include "compress/top_positions.h"
#include "restkv/aligned.h"
#include "restkv/error.h"

namespace restkv {

LayerScores score_kv_heads(const LayerObservation& layer, const CompressionOptions& options,
                           size_t candidates,
                           FunctionRef<void(size_t kv_head, std::span<float> row)> score) {
  LayerScores scores(cache_heads(layer, options), candidates);
  const size_t repeat = scores.heads / layer.keys.heads;
  parallel_for(layer.keys.heads, [&](size_t kv_head, size_t) {
    const auto row = scores.rows().row_span(kv_head * repeat);
    score(kv_head, row);
    for (size_t r = 1; r < repeat; ++r) {
      std::copy(row.begin(), row.end(), scores.rows().row(kv_head * repeat + r));
    }
  });
  return scores;
}

namespace {

AlignedVector<float> gather(Matrix<const float> rows, std::span<const int32_t> positions) {
  AlignedVector<float> out(positions.size() * rows.cols);
  for (size_t i = 0; i < positions.size(); ++i) {
    std::copy_n(rows.row(static_cast<size_t>(positions[i])), rows.cols, &out[i * rows.cols]);
  }
  return out;
}

/// Positions of one head that are kept.
std::vector<int32_t> stream(Matrix<const float> keys, Matrix<const float> values, size_t budget,
                            size_t block_size, HeadScorer score) {
  std::vector<int32_t> kept(std::min(budget, keys.rows));
  std::iota(kept.begin(), kept.end(), 0);
  TopPositions top;
  for (size_t begin = kept.size(); begin < keys.rows; begin += block_size) {
    const size_t end = std::min(keys.rows, begin + block_size);
    for (size_t j = begin; j < end; ++j) kept.push_back(static_cast<int32_t>(j));
    const auto k = gather(keys, kept);
    const auto v = gather(values, kept);
    std::vector<float> scores(kept.size());
    score({k.data(), kept.size(), keys.cols}, {v.data(), kept.size(), values.cols}, scores);
    std::vector<int32_t> best;
    for (const int32_t i : top.find(scores, budget)) best.push_back(kept[static_cast<size_t>(i)]);
    kept = std::move(best);
  }
  return kept;
}

}  // namespace

void raise_sinks(LayerScores& scores, size_t sinks) {
  float largest = 0.0F;
  for (size_t h = 0; h < scores.heads; ++h) {
    for (const float x : scores.rows().row_span(h).subspan(sinks)) largest = std::max(largest, x);
  }
  for (size_t h = 0; h < scores.heads; ++h) {
    std::fill_n(scores.rows().row(h), sinks, largest + 1.0F);
  }
}

LayerScores score_keys_and_values(const LayerObservation& layer, const CompressionOptions& options,
                                  HeadScorer score) {
  return score_kv_heads(layer, options, layer.keys.rows, [&](size_t kv_head, std::span<float> row) {
    const auto keys = layer.keys.head(kv_head);
    const auto values = layer.values.head(kv_head);
    if (options.block_size == 0) return score(keys, values, row);
    std::fill(row.begin(), row.end(), 0.0F);
    for (const int32_t position : stream(keys, values, static_cast<size_t>(options.budget),
                                         static_cast<size_t>(options.block_size), score)) {
      row[static_cast<size_t>(position)] = 1.0F;
    }
  });
}

void check_blocks(const CompressionOptions& options) {
  if (options.block_size < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("block_size is {}; give the positions per block, or 0 for no blocks",
                            options.block_size));
  }
  if (options.block_size > 0 && options.allocation != "uniform") {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("block_size is {}; blocks are cut to the same budget in every head, so "
                            "allocation must be uniform, not {}",
                            options.block_size, options.allocation));
  }
}

void softmax(std::span<float> logits, std::optional<float> sink) {
  if (logits.empty()) return;
  float largest = *std::max_element(logits.begin(), logits.end());
  if (sink) largest = std::max(largest, *sink);
  double sum = sink ? double{std::exp(*sink - largest)} : 0.0;
  for (float& x : logits) {
    x = std::exp(x - largest);
    sum += double{x};
  }
  const auto inverse = static_cast<float>(1.0 / sum);
  for (float& x : logits) x *= inverse;
}

void check_protected(const CompressionOptions& options, const char* what, int count) {
  if (count < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} is {}; it must be 0 or more", what, count));
  }
  if (options.budget <= count) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format("budget {} leaves no room beside {} tokens that always stay ({}); raise "
                    "the budget or lower {}",
                    options.budget, count, what, what));
  }
}

void check_window_and_sinks(const CompressionOptions& options) {
  if (options.window < 0 || options.sinks < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("window is {} and sinks {}; they must be 0 or more", options.window,
                            options.sinks));
  }
  const int room = std::numeric_limits<int>::max() - options.sinks;
  check_protected(options, "window and sinks", std::min(options.window, room) + options.sinks);
}

}  // namespace restkv
