#include "compress/window_scores.h"

#include <algorithm>
#include <memory>
#include <numeric>
#include <utility>
#include <vector>

#include "restkv/aligned.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

/// Scores one KV head after another, each into its own rows of the results.
class Scorer {
 public:
  Scorer(const LayerObservation& layer, const CompressionOptions& options, GroupScorer score,
         SelectionTrace* trace)
      : layer_(layer),
        options_(options),
        score_(score),
        trace_(trace),
        kv_heads_(layer.keys.heads),
        group_(layer.queries.heads / kv_heads_),
        window_(static_cast<size_t>(options.window)),
        past_(layer.keys.rows - window_),
        reduce_first_(options.reduce_before_pooling && !options.per_query_head),
        adaptive_(follows_attention()),
        pooled_heads_(reduce_first_ ? 1 : group_),
        cache_heads_(options.per_query_head ? group_ : 1),
        scores_(kv_heads_ * cache_heads_, past_) {
    if (trace_ == nullptr) return;
    const size_t heads = kv_heads_ * pooled_heads_;
    trace_->raw.resize(heads);
    trace_->smoothed.resize(heads);
    if (!adaptive_) return;
    trace_->drift.resize(heads);
    trace_->kernel.resize(heads);
    trace_->shift.resize(heads);
  }

  /// Whole KV heads side by side, one per thread, which spares the threads waiting for each other;
  /// the heads that are left over one at a time, their positions shared among the threads.
  LayerScores run() {
    const auto threads = static_cast<size_t>(num_threads());
    const size_t side_by_side = kv_heads_ / threads * threads;
    parallel_for(side_by_side, [&](size_t kv_head, size_t) { score_head(kv_head); });
    for (size_t kv_head = side_by_side; kv_head < kv_heads_; ++kv_head) score_head(kv_head);
    return std::move(scores_);
  }

 private:
  struct Scratch {
    WindowAttention attention;
    AlignedVector<float> raw;
    AlignedVector<float> smoothed;
  };

  void score_head(size_t kv_head) {
    // Kept from call to call, unless the prompt is long: asking the system for fresh pages would cost
    // as much as the scores of a short one.
    thread_local std::unique_ptr<Scratch> kept;
    if (kept == nullptr) kept = std::make_unique<Scratch>();
    score_head(kv_head, *kept);
    constexpr size_t kLongest = 16384;
    if (layer_.keys.rows > kLongest) kept.reset();
  }

  void score_head(size_t kv_head, Scratch& scratch) {
    scratch.raw.resize(group_ * past_);
    scratch.smoothed.resize(group_ * past_);
    Matrix<float> raw(scratch.raw.data(), group_, past_);
    scratch.attention.observe(layer_, kv_head, window_);
    score_(scratch.attention, kv_head, raw);

    std::vector<float> drift;
    if (adaptive_) {
      const size_t count = static_cast<size_t>(options_.budget) - window_;
      drift = options_.kernel == kAutoKernel ? half_window_drift(scratch.attention, count)
                                             : attention_drift(scratch.attention, count);
    }
    if (reduce_first_) {
      // One window for the group: it follows the mean drift of its query heads.
      reduce_group(raw, options_.group_reduce, raw.row_span(0));
      raw.rows = 1;
      if (adaptive_) {
        drift = {std::accumulate(drift.begin(), drift.end(), 0.0F) / static_cast<float>(group_)};
      }
    }
    const Matrix<float> smoothed(scratch.smoothed.data(), pooled_heads_, past_);
    smooth_rows(raw, drift, smoothed, kv_head * pooled_heads_);
    float* out = scores_.rows().row(kv_head * cache_heads_);
    if (options_.per_query_head) {
      std::copy_n(smoothed.data, group_ * past_, out);
    } else {
      reduce_group(smoothed, options_.group_reduce, {out, past_});
    }
  }

  /// Whether windows follow the attention. Means of as many positions as the budget has lie no
  /// further apart than `room`, so short prompts move no window by a step, and finding the
  /// positions would take a fifth of the time. Kernels other than `auto` do as published, where a
  /// drift of exactly 0 shifts by 1.
  [[nodiscard]] bool follows_attention() const {
    if (options_.pooling != Pooling::kAdaptive) return false;
    const double room = static_cast<double>(layer_.keys.rows) - options_.budget;
    return options_.kernel != kAutoKernel || room >= options_.drift_scale;
  }

  /// Smooths every row; the trace's entries begin at `first_head`.
  void smooth_rows(Matrix<const float> raw, const std::vector<float>& drift, Matrix<float> out,
                   size_t first_head) {
    const bool two_scales = options_.kernel == kAutoKernel && options_.pooling != Pooling::kNone;
    const int kernel = two_scales ? kNeighbourhood : options_.kernel;
    const size_t reach = sink_reach(options_.budget, options_.window);
    parallel_for(raw.rows, [&](size_t h, size_t) {
      PoolingWindow window{.kernel = kernel};
      if (adaptive_) window = adaptive_window(drift[h], kernel, options_.drift_scale);
      if (two_scales) {
        smooth_two_scales(raw.row_span(h), options_.pooling, window, reach, out.row_span(h));
      } else {
        smooth(raw.row_span(h), options_.pooling, window, out.row_span(h));
      }
      if (trace_ == nullptr) return;
      const size_t head = first_head + h;
      trace_->raw[head].assign(raw.row(h), raw.row(h) + raw.cols);
      trace_->smoothed[head].assign(out.row(h), out.row(h) + out.cols);
      if (!adaptive_) return;
      trace_->drift[head] = drift[h];
      trace_->kernel[head] = window.kernel;
      trace_->shift[head] = window.shift;
    });
  }

  const LayerObservation& layer_;
  const CompressionOptions& options_;
  GroupScorer score_;
  SelectionTrace* trace_;
  size_t kv_heads_;
  size_t group_;
  size_t window_;
  size_t past_;
  bool reduce_first_;
  bool adaptive_;
  size_t pooled_heads_;  ///< Rows that are pooled, per KV head.
  size_t cache_heads_;   ///< Selections, per KV head.
  LayerScores scores_;
};

}  // namespace

LayerScores score_by_window(const LayerObservation& layer, const CompressionOptions& options,
                            GroupScorer score, SelectionTrace* trace) {
  Scorer scorer(layer, options, score, trace);
  return scorer.run();
}

}  // namespace restkv
