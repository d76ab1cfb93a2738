#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "restkv/aligned.h"
#include "restkv/compress.h"
#include "restkv/views.h"

/// The stages of a selection, one by one, for engines and experiments that want to change or look
/// at what happens between them. `select_tokens` is
///   score_tokens (observe -> score -> smooth -> reduce) -> allocate_budget -> select_best,
/// and `KvCache::gather` copies what it selected. examples/evict_tensors.cpp uses them all.
namespace restkv {

// --- Observe ---

// The window is the last `window` rows of `LayerObservation::queries`, oldest first, and A[h, r, n]
// is softmax(q_r . K^T * scale) of query head h over all n positions. The window block is causal:
// row r sees the window's columns 0..r; weights beyond are exactly 0.

/// A sum of the window's rows, one for each query head:
/// out[h][n] = sum over r of coefficients[r] * A[h, r, n].
struct RowCombination {
  std::span<const float> coefficients;  ///< [window]
  Matrix<float> out;                    ///< [query_heads, past] or [query_heads, n]
};
/// So many at a time.
constexpr size_t kMostCombinations = 3;

/// Makes one to kMostCombinations such sums in one pass over the keys, without ever holding A. The
/// softmax denominators come from `LayerObservation::lse` or, if nobody has them, from a pass
/// of their own. Throws `Error` (kInput) if a query or a key is NaN or infinite, (kInvalidArgument)
/// for other numbers.
void combine_window(const LayerObservation& layer, size_t window,
                    std::span<const RowCombination> combinations);

/// A itself for the query heads of one KV head, for those that need its rows one by one. Memory:
/// group * window * n floats, kept from one `observe` to the next.
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

/// A sum of such rows, one for each coefficient, for the columns of `out` [group, past] or [group,
/// n].
void combine_rows(const WindowAttention& attention, std::span<const float> coefficients,
                  Matrix<float> out);

// --- Smooth ---

/// Width and displacement of a pooling window, in positions.
struct PoolingWindow {
  int kernel = 1;
  int shift = 0;
};

/// ReST-KV's drift t of every query head of a group, in positions: where the `count` largest
/// weights of a window row lie, averaged over the first window / 2 rows, minus the same over the
/// other rows. The window's own columns take part. 0 for a window of one row.
std::vector<float> attention_drift(const WindowAttention& attention, size_t count);

/// The same between two rows only, sums of the older and of the newer half of the window, [query
/// heads, n] each: what `kAutoKernel` follows. A window of 32 rows is searched 16 times as fast.
std::vector<float> half_window_drift(Matrix<const float> older, Matrix<const float> newer,
                                     size_t count);

/// ReST-KV's adaptive window: kernel 2 * floor(|t| / scale) + 1 but at least `kernel`; shift t /
/// scale rounded as the authors' code does it: towards zero, except that t = 0 shifts by 1 and an
/// exact negative multiple -c * scale by -(c - 1).
PoolingWindow adaptive_window(float drift, int kernel, double scale);

/// Smooths scores along positions; `out` has the size of `raw`. Average: zeros outside, always
/// divided by the kernel. Max: the outside never wins. Adaptive: average with edge values repeated.
/// All look at positions around i + shift.
void smooth(std::span<const float> raw, Pooling pooling, PoolingWindow window,
            std::span<float> out);

/// The wider one of the two scales of `kAutoKernel`: a neighbourhood with its centre 4 positions
/// earlier (so that 14 positions behind a peak count by it and 6 before: what is asked for mostly
/// follows the words that the question repeats), and what its mean weighs.
inline constexpr int kNeighbourhood = 21;
inline constexpr int kNeighbourhoodShift = -4;
inline constexpr float kNeighbourhoodWeight = 2.0F;

/// How many positions may have a prompt's first token among their neighbours: an eighth of what
/// `budget` leaves beside the `window`, and no more than lie behind any other peak.
size_t sink_reach(int budget, int window);

/// What `kAutoKernel` does: a position counts for itself, with the two next to it, or for its
/// neighbourhood, whichever is more,
///   max((raw[i-1] + 2 raw[i] + raw[i+1]) / 4, kNeighbourhoodWeight * mean of kNeighbourhood).
/// Wide pooling alone keeps long answers whole but spends small budgets on a few places; narrow
/// pooling does the reverse. The first token draws attention whatever it says (it is the model's
/// attention sink): for positions beyond the next `reach` it is none of their neighbours, or small
/// budgets would go to those behind it in every head. docs/methods.md has the figures. `window` is
/// at least kNeighbourhood wide; the methods here pass exactly that or `adaptive_window(drift,
/// kNeighbourhood, scale)`; both scales follow its shift.
void smooth_two_scales(std::span<const float> raw, Pooling pooling, PoolingWindow window,
                       size_t reach, std::span<float> out);

/// One score per position for a whole group: mean, maximum or sum over the rows of `scores`.
void reduce_group(Matrix<const float> scores, GroupReduce reduce, std::span<float> out);

// --- Score, allocate, select ---

/// The scores of a method for one layer, smoothed and reduced to cache heads. Unlike
/// `select_tokens` this scores short prompts too; methods with a window need n >= window. Throws
/// like `select_tokens`.
LayerScores score_tokens(const LayerObservation& layer, const CompressionOptions& options,
                         SelectionTrace* trace = nullptr);

/// How many candidates each cache head keeps, under the options' allocation and budget.
std::vector<size_t> allocate_budget(const LayerObservation& layer, const LayerScores& scores,
                                    const CompressionOptions& options);

/// The `counts[h]` best candidates of every cache head and, of a prompt of `length` tokens, all
/// that is protected. Throws `Error` (kInvalidArgument) if counts do not fit the scores.
Selection select_best(const LayerScores& scores, std::span<const size_t> counts, size_t length);

}  // namespace restkv
