#include "compress/window_selection.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "base/aligned.h"
#include "compress/smoothing.h"
#include "compress/top_positions.h"

namespace restkv {
namespace {

/// Smooths every row of raw [heads, past] into out; records what it did.
void smooth_rows(Matrix<const float> raw, const CompressionOptions& options,
                 const std::vector<float>& drift, Matrix<float> out, SelectionTrace* trace) {
  std::vector<PoolingWindow> windows(raw.rows, {options.kernel, 0});
  for (size_t h = 0; h < drift.size(); ++h) {
    windows[h] = adaptive_window(drift[h], options.kernel, options.drift_scale);
  }
  parallel_for(raw.rows, [&](size_t h, size_t) {
    smooth(raw.row_span(h), options.pooling, windows[h], out.row_span(h));
  });
  if (trace == nullptr) return;
  for (size_t h = 0; h < raw.rows; ++h) {
    trace->raw.emplace_back(raw.row(h), raw.row(h) + raw.cols);
    trace->smoothed.emplace_back(out.row(h), out.row(h) + out.cols);
    if (options.pooling != Pooling::kAdaptive) continue;
    trace->drift.push_back(drift[h]);
    trace->kernel.push_back(windows[h].kernel);
    trace->shift.push_back(windows[h].shift);
  }
}

}  // namespace

Selection select_by_window(const LayerObservation& layer, const CompressionOptions& options,
                           GroupScorer score, SelectionTrace* trace) {
  const size_t kv_heads = layer.keys.heads;
  const size_t group = layer.queries.heads / kv_heads;
  const auto window = static_cast<size_t>(options.window);
  const size_t length = layer.keys.rows;
  const size_t past = length - window;
  const size_t kept_past = static_cast<size_t>(options.budget) - window;
  const size_t heads_per_kv = options.per_query_head ? group : 1;
  const bool reduce_first = options.reduce_before_pooling && !options.per_query_head;

  AlignedVector<float> final_scores(kv_heads * heads_per_kv * past);
  const Matrix<float> scores(final_scores.data(), kv_heads * heads_per_kv, past);
  AlignedVector<float> raw_scores(group * past);
  AlignedVector<float> smoothed_scores(group * past);
  WindowAttention attention;
  for (size_t kv_head = 0; kv_head < kv_heads; ++kv_head) {
    attention.observe(layer, kv_head, window);
    Matrix<float> raw(raw_scores.data(), group, past);
    score(attention, kv_head, raw);

    std::vector<float> drift;
    if (options.pooling == Pooling::kAdaptive) drift = attention_drift(attention, kept_past);
    if (reduce_first) {
      // One window for the group: it follows the mean drift of its query heads.
      reduce_group(raw, options.group_reduce, raw.row_span(0));
      raw.rows = 1;
      if (!drift.empty()) {
        drift = {std::accumulate(drift.begin(), drift.end(), 0.0F) / static_cast<float>(group)};
      }
    }
    const Matrix<float> smoothed(smoothed_scores.data(), raw.rows, past);
    smooth_rows(raw, options, drift, smoothed, trace);
    if (options.per_query_head) {
      std::copy_n(smoothed.data, group * past, scores.row(kv_head * group));
    } else {
      reduce_group(smoothed, options.group_reduce, scores.row_span(kv_head));
    }
  }

  Selection selection;
  selection.keep.resize(scores.rows);
  std::vector<TopPositions> top(static_cast<size_t>(num_threads()));
  parallel_for(scores.rows, [&](size_t head, size_t thread) {
    const auto best = top[thread].find(scores.row_span(head), kept_past);
    auto& keep = selection.keep[head];
    keep.resize(static_cast<size_t>(options.budget));
    const auto recent = std::copy(best.begin(), best.end(), keep.begin());
    std::iota(recent, keep.end(), static_cast<int32_t>(past));
  });
  return selection;
}

}  // namespace restkv
