#include "compress/window_scores.h"

#include <algorithm>
#include <numeric>
#include <utility>
#include <vector>

#include "compress/method.h"
#include "restkv/aligned.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

/// Arrays of [heads, positions].
struct Scratch {
  WindowAttention attention;
  AlignedVector<float> raw, smoothed, older, newer;
};

Matrix<float> room(AlignedVector<float>& storage, size_t rows, size_t cols) {
  storage.resize(rows * cols);
  return {storage.data(), rows, cols};
}

/// Scores one layer.
class Scorer {
 public:
  Scorer(const LayerObservation& layer, const CompressionOptions& options,
         const WindowScoring& scoring, SelectionTrace* trace, Scratch& scratch)
      : layer_(layer),
        options_(options),
        scoring_(scoring),
        trace_(trace),
        scratch_(scratch),
        query_heads_(layer.queries.heads),
        kv_heads_(layer.keys.heads),
        group_(query_heads_ / kv_heads_),
        window_(static_cast<size_t>(options.window)),
        past_(layer.keys.rows - window_),
        reduce_first_(options.reduce_before_pooling && !options.per_query_head),
        adaptive_(follows_attention()) {}

  LayerScores run() {
    const Matrix<float> combined = room(scratch_.raw, query_heads_, past_ + window_);
    std::vector<float> drift = score(combined);
    const Matrix<float> raw(combined.data, query_heads_, past_, combined.stride);
    // The group has one window, which follows the mean drift of its query heads.
    const Matrix<const float> pooled = reduce_first_ ? reduce_groups(raw, drift) : raw;
    const Matrix<float> smoothed = room(scratch_.smoothed, pooled.rows, past_);
    smooth_rows(pooled, drift, smoothed);

    LayerScores scores(options_.per_query_head ? query_heads_ : kv_heads_, past_);
    if (scores.heads == smoothed.rows) {
      std::copy_n(smoothed.data, smoothed.rows * past_, scores.values.data());
      return scores;
    }
    parallel_for(kv_heads_, [&](size_t h, size_t) {
      reduce_group(smoothed.slice(h * group_, group_), options_.group_reduce,
                   scores.rows().row_span(h));
    });
    return scores;
  }

 private:
  /// Fills the past columns of raw [query_heads, n] with scores. Returns the drift of every query
  /// head if pooling windows follow it.
  std::vector<float> score(Matrix<float> raw) {
    std::vector<RowCombination> sums{{scoring_.coefficients, raw}};
    // Sums replace means, because a row's best positions are the same.
    std::vector<float> of_older(window_, 0.0F);
    std::vector<float> of_newer(window_, 1.0F);
    std::fill_n(of_older.begin(), window_ / 2, 1.0F);
    std::fill_n(of_newer.begin(), window_ / 2, 0.0F);
    const bool two_rows = adaptive_ && options_.kernel == kAutoKernel;
    if (two_rows) {
      const size_t n = layer_.keys.rows;
      sums.push_back({of_older, room(scratch_.older, query_heads_, n)});
      sums.push_back({of_newer, room(scratch_.newer, query_heads_, n)});
    }
    // A layer may hold fewer tokens than the budget after earlier evictions.
    const size_t count = std::min(static_cast<size_t>(options_.budget) - window_, layer_.keys.rows);
    std::vector<float> drift;
    if (scoring_.score_rows == nullptr && (two_rows || !adaptive_)) {
      combine_window(layer_, window_, sums);
    } else {
      drift = score_rows(sums, count);
    }
    if (two_rows) {
      drift = window_ > 1 ? half_window_drift(sums[1].out, sums[2].out, count)
                          : std::vector<float>(query_heads_, 0.0F);
    }
    if (scoring_.finish != nullptr) scoring_.finish(layer_, options_, scoring_.coefficients, raw);
    return drift;
  }

  /// The same for methods that need individual rows; returns the drift between all of them.
  std::vector<float> score_rows(std::span<const RowCombination> sums, size_t count) {
    std::vector<float> drift;
    for (size_t kv_head = 0; kv_head < kv_heads_; ++kv_head) {
      WindowAttention& attention = scratch_.attention;
      attention.observe(layer_, kv_head, window_);
      for (const RowCombination& sum : sums) {
        const Matrix<float> out = sum.out.slice(kv_head * group_, group_);
        if (scoring_.score_rows != nullptr && &sum == sums.data()) {
          scoring_.score_rows(layer_, options_, attention, kv_head, sum.coefficients,
                              {out.data, out.rows, past_, out.stride});
        } else {
          combine_rows(attention, sum.coefficients, out);
        }
      }
      if (!adaptive_ || sums.size() > 1) continue;
      const auto of_group = attention_drift(attention, count);
      drift.insert(drift.end(), of_group.begin(), of_group.end());
    }
    return drift;
  }

  /// Reduces every group in place. The results are the first rows; their drift is the mean drift.
  Matrix<const float> reduce_groups(Matrix<float> raw, std::vector<float>& drift) const {
    for (size_t h = 0; h < kv_heads_; ++h) {
      reduce_group(raw.slice(h * group_, group_), options_.group_reduce, raw.row_span(h));
      if (!adaptive_) continue;
      const auto of_group = drift.begin() + static_cast<ptrdiff_t>(h * group_);
      drift[h] = std::accumulate(of_group, of_group + static_cast<ptrdiff_t>(group_), 0.0F) /
                 static_cast<float>(group_);
    }
    return raw.slice(0, kv_heads_);
  }

  /// Whether windows follow the attention. The drift cannot exceed `room`, so short prompts never
  /// move a window, and the search for positions would take a fifth of the time. Kernels other than
  /// `auto` follow the published code, where a drift of exactly 0 shifts by 1.
  [[nodiscard]] bool follows_attention() const {
    if (options_.pooling != Pooling::kAdaptive) return false;
    const double room = static_cast<double>(layer_.keys.rows) - options_.budget;
    return options_.kernel != kAutoKernel || room >= options_.drift_scale;
  }

  void smooth_rows(Matrix<const float> raw, const std::vector<float>& drift, Matrix<float> out) {
    if (trace_ != nullptr) {
      trace_->raw.resize(raw.rows);
      trace_->smoothed.resize(raw.rows);
      if (adaptive_) {
        trace_->drift.resize(raw.rows);
        trace_->kernel.resize(raw.rows);
        trace_->shift.resize(raw.rows);
      }
    }
    parallel_for(raw.rows, [&](size_t h, size_t) {
      const PoolingWindow window =
          smooth_row(options_, adaptive_ ? std::optional(drift[h]) : std::nullopt, raw.row_span(h),
                     out.row_span(h));
      if (trace_ == nullptr) return;
      trace_->raw[h].assign(raw.row(h), raw.row(h) + raw.cols);
      trace_->smoothed[h].assign(out.row(h), out.row(h) + out.cols);
      if (!adaptive_) return;
      trace_->drift[h] = drift[h];
      trace_->kernel[h] = window.kernel;
      trace_->shift[h] = window.shift;
    });
  }

  const LayerObservation& layer_;
  const CompressionOptions& options_;
  const WindowScoring& scoring_;
  SelectionTrace* trace_;
  Scratch& scratch_;
  size_t query_heads_;
  size_t kv_heads_;
  size_t group_;
  size_t window_;
  size_t past_;
  bool reduce_first_;
  bool adaptive_;
};

}  // namespace

PoolingWindow smooth_row(const CompressionOptions& options, std::optional<float> drift,
                         std::span<const float> raw, std::span<float> out) {
  const bool two_scales = options.kernel == kAutoKernel && options.pooling != Pooling::kNone;
  const int kernel = two_scales ? kNeighbourhood : options.kernel;
  const PoolingWindow window = drift ? adaptive_window(*drift, kernel, options.drift_scale)
                                     : PoolingWindow{.kernel = kernel};
  if (two_scales) {
    smooth_two_scales(raw, options.pooling, window, sink_reach(options.budget, options.window),
                      out);
  } else {
    smooth(raw, options.pooling, window, out);
  }
  return window;
}

LayerScores score_by_window(const LayerObservation& layer, const CompressionOptions& options,
                            const WindowScoring& scoring, SelectionTrace* trace) {
  if (before_window(layer, options) == 0) return {cache_heads(layer, options), 0};
  // Reused between calls except after long prompts: fresh pages would cost as much time as the
  // scores of a short prompt.
  thread_local Scratch scratch;
  LayerScores scores = Scorer(layer, options, scoring, trace, scratch).run();
  constexpr size_t kLongest = 16384;
  if (layer.keys.rows > kLongest) scratch = {};
  return scores;
}

}  // namespace restkv
