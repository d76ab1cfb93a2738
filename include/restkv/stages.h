#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "restkv/aligned.h"
#include "restkv/compress.h"
#include "restkv/views.h"

/// The stages of a selection, for engines and experiments that inspect or replace single ones.
/// `select_tokens` is
///   score_tokens (observe -> score -> smooth -> reduce) -> allocate_budget -> select_best,
/// then `merge_evicted` may change values, `KvCache::gather` copies the selected rows, and what
/// `refit_rows` makes of them may replace them (`KvCache::refit`).
/// examples/evict_tensors.cpp uses them all.
namespace restkv {

// --- Observe ---

// The window is the last `window` rows of `LayerObservation::queries`, oldest first, and A[h, r, n]
// is softmax(q_r . K^T * scale) of query head h over all n positions. The window block is causal:
// row r sees the window's columns 0..r; weights beyond are exactly 0.

/// A weighted sum of the window's rows for each query head:
/// out[h][n] = sum over r of coefficients[r] * A[h, r, n].
struct RowCombination {
  std::span<const float> coefficients;  ///< [window]
  Matrix<float> out;                    ///< [query_heads, past] or [query_heads, n]
};
/// Limit of `combine_window`.
constexpr size_t kMostCombinations = 3;

/// Computes one to kMostCombinations such sums in one pass over the keys, without storing A.
/// Softmax denominators come from `LayerObservation::lse`; without it one more pass computes them.
/// Throws `Error`: kInput if a query or a key is NaN or infinite, kInvalidArgument for another
/// number of combinations.
void combine_window(const LayerObservation& layer, size_t window,
                    std::span<const RowCombination> combinations);

/// A of the query heads of one KV head, for methods that need individual rows. Memory: group *
/// window * n floats, reused by the next `observe`.
class WindowAttention {
 public:
  /// Throws `Error` (kInput) if a query or a key is NaN or infinite.
  void observe(const LayerObservation& layer, size_t kv_head, size_t window);

  [[nodiscard]] size_t group() const { return group_; }
  [[nodiscard]] size_t window() const { return window_; }
  /// All rows: [group * window, n].
  [[nodiscard]] Matrix<const float> rows() const {
    return {weights_.data(), group_ * window_, length_, stride_};
  }

 private:
  size_t group_ = 0;
  size_t window_ = 0;
  size_t length_ = 0;
  size_t stride_ = 0;
  AlignedVector<float> weights_;
};

/// The weighted sum of the rows of each query head, with one coefficient per row: `out` [group,
/// past] or [group, n].
void combine_rows(const WindowAttention& attention, std::span<const float> coefficients,
                  Matrix<float> out);

// --- Smooth ---

/// Width and shift of a pooling window, in positions.
struct PoolingWindow {
  int kernel = 1;
  int shift = 0;
};

/// ReST-KV's drift t of every query head of a group, in positions: the mean position of the `count`
/// largest weights of a row, averaged over the first window / 2 rows, minus the same over the other
/// rows. The window's own columns take part. 0 for a window of one row.
std::vector<float> attention_drift(const WindowAttention& attention, size_t count);

/// The drift between two rows per query head, [query_heads, n] each: the sums of the older and of
/// the newer half of the window. `kAutoKernel` uses it. For a window of 32 rows it is 16 times as
/// fast.
std::vector<float> half_window_drift(Matrix<const float> older, Matrix<const float> newer,
                                     size_t count);

/// ReST-KV's adaptive window. The kernel is 2 * floor(|t| / scale) + 1, at least `kernel`. The
/// shift is t / scale, rounded as in the authors' code: towards zero, except that t = 0 shifts by 1
/// and an exact negative multiple -c * scale by -(c - 1).
PoolingWindow adaptive_window(float drift, int kernel, double scale);

/// Smooths scores along positions; `out` has the size of `raw`. All modes read positions around i +
/// shift. Average pads with zeros and always divides by the kernel. Max ignores positions outside.
/// Adaptive averages with edge values repeated.
void smooth(std::span<const float> raw, Pooling pooling, PoolingWindow window,
            std::span<float> out);

/// The wider of the two scales of `kAutoKernel`: width, shift and weight of a neighbourhood. Its
/// centre is 4 positions earlier, so that a peak reaches 14 positions after it and 6 before it:
/// answers mostly follow the words that the question repeats.
inline constexpr int kNeighbourhood = 21;
inline constexpr int kNeighbourhoodShift = -4;
inline constexpr float kNeighbourhoodWeight = 2.0F;

/// Number of positions that may have a prompt's first token among their neighbours: an eighth of
/// budget - window, and no more than any other peak reaches.
size_t sink_reach(int budget, int window);

/// The pooling of `kAutoKernel`: the maximum of a narrow and a wide average,
///   max((raw[i-1] + 2 raw[i] + raw[i+1]) / 4, kNeighbourhoodWeight * mean of kNeighbourhood).
/// Wide pooling alone keeps long answers whole but spends small budgets on a few places; narrow
/// pooling does the reverse. The first token is an attention sink and gets attention regardless of
/// its content. Only the next `reach` positions count it as a neighbour; otherwise small budgets
/// would be spent on the positions after it in every head. docs/methods.md has the figures.
/// `window` is at least kNeighbourhood wide; methods pass exactly that width or
/// `adaptive_window(drift, kNeighbourhood, scale)`. Both scales follow its shift.
void smooth_two_scales(std::span<const float> raw, Pooling pooling, PoolingWindow window,
                       size_t reach, std::span<float> out);

/// One score per position for a whole group: mean, maximum or sum over the rows of `scores`.
void reduce_group(Matrix<const float> scores, GroupReduce reduce, std::span<float> out);

// --- Score, allocate, select ---

/// Scores of a method for one layer, smoothed and reduced to cache heads. Unlike `select_tokens`
/// this scores short prompts too; methods with a window need n >= window. Throws like
/// `select_tokens`.
LayerScores score_tokens(const LayerObservation& layer, const CompressionOptions& options,
                         SelectionTrace* trace = nullptr);

/// Number of candidates that each cache head keeps, under the options' allocation and budget.
std::vector<size_t> allocate_budget(const LayerObservation& layer, const LayerScores& scores,
                                    const CompressionOptions& options);

/// Selects the `counts[h]` best candidates of every cache head and all protected positions of a
/// prompt of `length` tokens. Throws `Error` (kInvalidArgument) if counts do not fit the scores.
Selection select_best(const LayerScores& scores, std::span<const size_t> counts, size_t length);

/// Selections of the layers of a model, one after another, for allocations that cut a layer again
/// when later layers are known (`Allocation::reallocate`). What is kept at any time suffices for
/// the selection after the last layer.
class LayerCascade {
 public:
  explicit LayerCascade(const CompressionOptions& options) : options_(options) {}

  /// Scores the next layer, whose heads are given as to `select_ragged`, and cuts all layers so
  /// far. Element i of the result belongs to the i-th layer: the rows that its heads keep, counted
  /// among the rows that they have kept so far (the new layer's: among all). Throws as
  /// `select_ragged` does.
  std::vector<Selection> add(std::span<const LayerObservation> heads);

 private:
  CompressionOptions options_;
  std::vector<LayerCandidates> candidates_;     ///< Of each layer so far.
  std::vector<std::vector<size_t>> protected_;  ///< Rows behind the candidates: [layer][head].
};

// --- Merge ---

/// Folds the values of evicted rows into kept ones, in place, before rows are gathered. Every
/// evicted row e joins the kept row of its head whose key has the largest cosine s to its own, if
/// s >= merge_threshold and e is among the merge_fraction of evicted rows with the largest s:
///   v <- (v + sum of w v_e) / (1 + sum of w),  w = max(s, 0) |v_e| / (|v_e| + |v| + 1e-6)
/// Keys stay as they are. keys [heads, n, d], values [heads, n, dv]; `selection` has one ascending
/// list per head. Throws `Error` (kInvalidArgument) on shapes and options that do not fit.
void merge_evicted(Heads<const float> keys, Heads<float> values, const Selection& selection,
                   const CompressionOptions& options);

// --- Refit ---

/// What kept rows shall stand for: the attention of reference queries to all rows of a layer.
struct RefitTargets {
  size_t query_heads = 0;
  size_t count = 0;  ///< Reference queries per query head; 0: there are none.
  size_t dim = 0, value_dim = 0;
  AlignedVector<float> queries;  ///< [query_heads, count, d], after rotary embedding.
  AlignedVector<float> lse;      ///< [query_heads, count]: logarithms of the softmax denominators.
  AlignedVector<float> outputs;  ///< [query_heads, count, dv]
  /// A query sees rows up to its position, [count]; empty: all rows.
  std::vector<int32_t> positions;
  float scale = 0.0F;  ///< As in `LayerObservation`.
  float softcap = 0.0F;
  std::vector<float> sink_logits;  ///< [query_heads], or empty.
};

/// The targets of a layer before it is cut. The reference queries are, as the option `refit` says,
/// the last `window` of `LayerObservation::queries`, which must be those of the layer's last rows,
/// or all of `LayerObservation::repeat_queries`. Row i of the layer counts as position i. Throws
/// `Error`: kInvalidArgument (shapes), kInput (NaN or infinity).
RefitTargets refit_targets(const LayerObservation& layer, const CompressionOptions& options);

/// The rows that a cache head keeps.
struct KeptRows {
  Matrix<const float> keys;            ///< [t, d], after rotary embedding.
  Matrix<const float> values;          ///< [t, dv]
  std::span<const int32_t> positions;  ///< [t], ascending.
  std::span<const float> bias = {};    ///< [t]; empty: 0.
};

struct RefittedRows {
  std::vector<float> values;  ///< [t, dv]
  std::vector<float> bias;    ///< [t]
  /// Sums over the reference queries: of the squared lengths of the targets' outputs, and of those
  /// of the differences that the rows' outputs make to them, as they were and now.
  double squared_outputs = 0.0, squared_error_before = 0.0, squared_error = 0.0;
};

/// Lets the kept rows of a cache head stand for all rows (Attention Matching, arXiv 2602.16284),
/// whose query heads are [first, first + heads). Keys stay. Biases within 3 of 0 make the sums of
/// exponentials those of all rows, then values make the outputs those of all rows, both by least
/// squares over the reference queries. `refit_ridge` times the largest squared singular value pulls
/// towards the rows as they are, so that what no query asks for stays. The error of the outputs
/// never becomes larger. Throws `Error` (kInvalidArgument) on shapes that do not fit.
RefittedRows refit_rows(const RefitTargets& targets, size_t first, size_t heads,
                        const KeptRows& rows, const CompressionOptions& options);

}  // namespace restkv
