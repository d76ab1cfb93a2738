#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>
#include <vector>

#include "attention/attention_precision.h"
#include "attention/softmax_scale.h"
#include "base/prefetch.h"
#include "compress/finite.h"
#include "compress/position_blocks.h"
#include "restkv/error.h"
#include "restkv/stages.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/window_attention.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "attention/prefill_operands-inl.h"
#include "base/math-inl.h"
#include "compress/finite_logits-inl.h"
#include "hwy/highway.h"

#ifndef RESTKV_COMPRESS_WINDOW_ATTENTION_TYPES_
#define RESTKV_COMPRESS_WINDOW_ATTENTION_TYPES_
namespace restkv {

/// The window of some KV heads and the results: either weights or combinations, the other is empty.
struct WindowTask {
  Heads<const float> queries;  ///< [query_heads, window, d]
  Heads<const float> keys;     ///< [kv_heads, n, d]
  Matrix<const float> bias;    ///< [kv_heads, n] or empty.
  Matrix<const float> lse;
  float scale, softcap;
  std::span<const float> sink_logits;  ///< [query_heads] or empty.
  AttentionPrecision precision;
  std::span<const RowCombination> combinations;
  Matrix<float> weights;  ///< [query_heads * window, n], with room for whole tiles.
};

}  // namespace restkv
#endif

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

using WindowTag = hn::CappedTag<float, 16>;
constexpr size_t kWindowLanes = hn::MaxLanes(WindowTag());

/// The packed queries of one KV head's query heads: row g * window + r.
template <class Operands>
std::vector<Operands> PackWindow(const WindowTask& t) {
  const size_t group = t.queries.heads / t.keys.heads;
  const size_t window = t.queries.rows;
  const size_t rows = group * window;
  // Soft-capping needs logits in natural units.
  const float scale = t.softcap > 0 ? t.scale : t.scale * kLog2E;
  std::vector<Operands> packed(t.keys.heads);
  for (size_t kv_head = 0; kv_head < t.keys.heads; ++kv_head) {
    const size_t padded_rows = hwy::RoundUpTo(rows, kTileRows);
    packed[kv_head].ResizeQueries(padded_rows, t.keys.dim);
    for (size_t i = 0; i < rows; ++i) {
      packed[kv_head].SetQuery(i, t.queries.row(kv_head * group + i / window, i % window), scale);
    }
    packed[kv_head].ClearQueries(rows, padded_rows);
  }
  return packed;
}

/// Packs and calls body(tile, kv_head, begin, positions) for every tile of keys of every KV head,
/// in parallel.
template <class Operands, class Body>
void ForEachKeyTile(const Heads<const float>& keys, const Body& body) {
  for_each_block(keys.heads, keys.rows, [&](size_t kv_head, size_t begin, size_t end) {
    thread_local Operands tile;  // reused between calls
    tile.ResizeKeys(keys.dim);
    for (size_t c = begin; c < end; c += kTilePositions) {
      const size_t positions = HWY_MIN(kTilePositions, end - c);
      tile.SetKeys(keys.row(kv_head, c), positions, keys.row_stride);
      body(tile, kv_head, c, positions);
    }
  });
}

/// Number of positions of a tile from `begin` on that window row r sees.
HWY_INLINE size_t VisibleOfTile(size_t begin, size_t past, size_t r) {
  const size_t end = past + r + 1;
  return end <= begin ? 0 : HWY_MIN(end - begin, kTilePositions);
}

/// Softmax denominators, as logarithms to base 2: out [query_heads, window]. Returns whether all
/// logits are finite.
template <class Operands>
bool WindowLse(const WindowTask& t, const std::vector<Operands>& queries, Matrix<float> out) {
  const size_t window = t.queries.rows;
  const size_t rows = t.queries.heads / t.keys.heads * window;
  const size_t past = t.keys.rows - window;
  const size_t tiles = hwy::DivCeil(t.keys.rows, kTilePositions);
  // The maximum of every row in every tile, and the sum of weights relative to it.
  std::vector<float> maxima(t.keys.heads * tiles * rows, kHiddenLogit);
  std::vector<float> sums(t.keys.heads * tiles * rows);
  std::atomic<bool> finite = true;
  ForEachKeyTile<Operands>(
      t.keys, [&](const Operands& tile, size_t kv_head, size_t begin, size_t positions) HWY_ATTR {
        HWY_ALIGN float logits[kTileRows * kTilePositions];
        HWY_ALIGN float biases[kTilePositions];
        const float* bias = TileBias(t.bias, kv_head, begin, positions, biases) ? biases : nullptr;
        const size_t at = (kv_head * tiles + begin / kTilePositions) * rows;
        for (size_t row = 0; row < rows; row += kTileRows) {
          if (!FiniteLogits(tile, queries[kv_head], row, t.softcap, bias, logits)) finite = false;
          for (size_t i = row; i < HWY_MIN(row + kTileRows, rows); ++i) {
            const size_t visible = VisibleOfTile(begin, past, i % window);
            if (visible == 0) continue;
            TopAndSum<Operands::kExpDegree>(logits + (i - row) * kTilePositions, visible,
                                            maxima[at + i], sums[at + i]);
          }
        }
      });
  for (size_t kv_head = 0; kv_head < t.keys.heads; ++kv_head) {
    for (size_t i = 0; i < rows; ++i) {
      const auto at = [&](size_t tile) { return (kv_head * tiles + tile) * rows + i; };
      float top = maxima[at(0)];
      for (size_t tile = 1; tile < tiles; ++tile) top = std::max(top, maxima[at(tile)]);
      double total = 0;
      if (!t.sink_logits.empty()) {
        const float sink = t.sink_logits[(kv_head * rows + i) / window] * kLog2E;
        top = std::max(top, sink);
        total = std::exp2(double{sink} - double{top});
      }
      for (size_t tile = 0; tile < tiles; ++tile) {
        if (sums[at(tile)] > 0) {
          total += double{sums[at(tile)]} * std::exp2(double{maxima[at(tile)]} - double{top});
        }
      }
      out.data[kv_head * rows + i] = static_cast<float>(double{top} + std::log2(total));
    }
  }
  return finite;
}

/// Rows of logits that belong to one query head: tokens `first` to `first + rows` of the window.
struct WindowRows {
  float* logits;  ///< [rows, kTilePositions]
  size_t first, rows;
  const float* lse;    ///< [rows]
  size_t begin, past;  ///< Positions of the tile's first key and of the window's first token.

  /// Number of keys of the tile that a row sees.
  [[nodiscard]] HWY_INLINE size_t visible(size_t row) const {
    return VisibleOfTile(begin, past, first + row);
  }
};

/// Turns logits into attention by given denominators; masked keys get 0. Stores it in place of the
/// logits (kSums == 0), or adds it, times the coefficients of each of kSums combinations, to sums
/// [kSums, kTilePositions], which stay in registers over the rows.
template <int kExpDegree, size_t kSums>
HWY_INLINE void Weigh(const WindowRows& r, const RowCombination* combinations,
                      float* HWY_RESTRICT sums) {
  const WindowTag d;
  const bool masked = r.visible(0) < kTilePositions;
  for (size_t j = 0; j < kTilePositions; j += kWindowLanes) {
    hn::Vec<WindowTag> sum[kSums + 1];
#pragma GCC unroll 4
    for (size_t s = 0; s < kSums; ++s) sum[s] = hn::Load(d, sums + s * kTilePositions + j);
    for (size_t i = 0; i < r.rows; ++i) {
      float* z = r.logits + i * kTilePositions + j;
      auto weight = Exp2<kExpDegree>(d, hn::Sub(hn::Load(d, z), hn::Set(d, r.lse[i])));
      if (HWY_UNLIKELY(masked)) {
        const size_t visible = r.visible(i);
        weight = hn::IfThenElseZero(hn::FirstN(d, visible - HWY_MIN(visible, j)), weight);
      }
      if constexpr (kSums == 0) hn::Store(weight, d, z);
#pragma GCC unroll 4
      for (size_t s = 0; s < kSums; ++s) {
        const auto coefficient = hn::Set(d, combinations[s].coefficients[r.first + i]);
        sum[s] = hn::MulAdd(coefficient, weight, sum[s]);
      }
    }
#pragma GCC unroll 4
    for (size_t s = 0; s < kSums; ++s) hn::Store(sum[s], d, sums + s * kTilePositions + j);
  }
}

/// The same for any number of combinations.
template <int kExpDegree>
HWY_INLINE void WeighHead(const WindowRows& rows, std::span<const RowCombination> combinations,
                          float* HWY_RESTRICT sums) {
  switch (combinations.size()) {
    case 0:
      return Weigh<kExpDegree, 0>(rows, combinations.data(), sums);
    case 1:
      return Weigh<kExpDegree, 1>(rows, combinations.data(), sums);
    case 2:
      return Weigh<kExpDegree, 2>(rows, combinations.data(), sums);
    default:
      return Weigh<kExpDegree, kMostCombinations>(rows, combinations.data(), sums);
  }
}

template <class Operands>
bool AttendWindowIn(const WindowTask& t) {
  const size_t window = t.queries.rows;
  const size_t group = t.queries.heads / t.keys.heads;
  const size_t rows = group * window;
  const size_t strips = hwy::DivCeil(rows, kTileRows);
  const size_t past = t.keys.rows - window;
  const std::vector<Operands> queries = PackWindow<Operands>(t);
  AlignedVector<float> lse(t.queries.heads * window);
  if (t.lse.data == nullptr) {
    if (!WindowLse(t, queries, {lse.data(), t.queries.heads, window})) return false;
  } else {
    for (size_t h = 0; h < t.queries.heads; ++h) {
      for (size_t r = 0; r < window; ++r) lse[h * window + r] = t.lse.row(h)[r] * kLog2E;
    }
  }
  std::atomic<bool> finite = true;
  ForEachKeyTile<Operands>(t.keys, [&](const Operands& tile, size_t kv_head, size_t begin,
                                       size_t positions) HWY_ATTR {
    HWY_ALIGN float weights[kTileRows * kTilePositions];
    HWY_ALIGN float biases[kTilePositions];
    const float* bias = TileBias(t.bias, kv_head, begin, positions, biases) ? biases : nullptr;
    thread_local AlignedVector<float> sums;  // reused between calls
    const size_t room = t.combinations.size() * kTilePositions;
    sums.assign(group * room, 0.0F);
    for (size_t row = 0; row < rows; row += kTileRows) {
      prefetch_rows(t.keys, kv_head, begin + kTilePositions, kTilePositions, row / kTileRows,
                    strips);
      if (!FiniteLogits(tile, queries[kv_head], row, t.softcap, bias, weights)) finite = false;
      const size_t end = HWY_MIN(row + kTileRows, rows);
      for (size_t i = row, next; i < end; i = next) {  // rows of one query head
        const size_t g = i / window;
        next = HWY_MIN(end, (g + 1) * window);
        WeighHead<Operands::kExpDegree>({.logits = weights + (i - row) * kTilePositions,
                                         .first = i % window,
                                         .rows = next - i,
                                         .lse = &lse[kv_head * rows + i],
                                         .begin = begin,
                                         .past = past},
                                        t.combinations, sums.data() + g * room);
      }
      if (t.weights.data == nullptr) continue;
      for (size_t i = row; i < end; ++i) {
        std::copy_n(weights + (i - row) * kTilePositions, kTilePositions,
                    t.weights.row(kv_head * rows + i) + begin);
      }
    }
    for (size_t s = 0; s < t.combinations.size(); ++s) {
      const Matrix<float>& out = t.combinations[s].out;
      if (begin >= out.cols) continue;
      for (size_t g = 0; g < group; ++g) {
        CopyPositions(sums.data() + g * room + s * kTilePositions,
                      HWY_MIN(positions, out.cols - begin), out.row(kv_head * group + g) + begin);
      }
    }
  });
  return finite;
}

/// out[c] = sum over rows of coefficients[row] * rows[row][c].
void CombineBlock(Matrix<const float> rows, const float* HWY_RESTRICT coefficients,
                  float* HWY_RESTRICT out) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  size_t c = 0;
  for (; c + lanes <= rows.cols; c += lanes) {
    auto sum = hn::Zero(d);
    for (size_t r = 0; r < rows.rows; ++r) {
      sum = hn::MulAdd(hn::Set(d, coefficients[r]), hn::LoadU(d, rows.row(r) + c), sum);
    }
    hn::StoreU(sum, d, out + c);
  }
  for (; c < rows.cols; ++c) {
    float sum = 0.0F;
    for (size_t r = 0; r < rows.rows; ++r) sum += coefficients[r] * rows.row(r)[c];
    out[c] = sum;
  }
}

bool AttendWindow(const WindowTask& task) {
  bool finite = false;
  WithOperands(task.precision, [&](auto* operands) HWY_ATTR {
    finite = AttendWindowIn<std::remove_pointer_t<decltype(operands)>>(task);
  });
  return finite;
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(AttendWindow);
HWY_EXPORT(CombineBlock);

/// Row stride for n columns: whole tiles, and an odd number of cache lines so that the rows of a
/// long prompt do not compete for the same cache sets.
size_t padded_stride(size_t n) {
  const size_t lines = (n + 63) / 64 * 4;
  return (lines + 1) * 16;
}

/// Computes the window over `heads` KV heads from `first` on.
void attend_window(const LayerObservation& layer, size_t first, size_t heads, size_t window,
                   std::span<const RowCombination> combinations, Matrix<float> weights) {
  require_support(layer.precision);
  if (window == 0 || window > std::min(layer.keys.rows, layer.queries.rows)) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a window of {} tokens does not fit {} queries and {} keys", window,
                            layer.queries.rows, layer.keys.rows));
  }
  const size_t group = layer.queries.heads / layer.keys.heads;
  const size_t skipped = layer.queries.rows - window;
  WindowTask task{
      .queries =
          layer.queries.slice_heads(first * group, heads * group).slice_rows(skipped, window),
      .keys = layer.keys.slice_heads(first, heads),
      .bias = layer.bias.data != nullptr ? layer.bias.slice(first, heads) : layer.bias,
      .lse = {},
      .scale = softmax_scale(layer.scale, layer.keys.dim),
      .softcap = layer.softcap,
      .sink_logits = layer.sink_logits.empty()
                         ? layer.sink_logits
                         : layer.sink_logits.subspan(first * group, heads * group),
      .precision = layer.precision,
      .combinations = combinations,
      .weights = weights,
  };
  if (layer.lse.data != nullptr) {
    task.lse = layer.lse.slice(first * group, heads * group);
    task.lse.data += skipped;
  }
  if (HWY_DYNAMIC_DISPATCH(AttendWindow)(task)) return;
  throw_not_finite(layer, first, heads, window);
}

}  // namespace

void combine_window(const LayerObservation& layer, size_t window,
                    std::span<const RowCombination> combinations) {
  if (combinations.empty() || combinations.size() > kMostCombinations) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} combinations of the window's rows; 1 to {} fit one pass",
                            combinations.size(), kMostCombinations));
  }
  attend_window(layer, 0, layer.keys.heads, window, combinations, {});
}

void combine_rows(const WindowAttention& attention, std::span<const float> coefficients,
                  Matrix<float> out) {
  for_each_block(out.rows, out.cols, [&](size_t g, size_t begin, size_t end) {
    const auto rows = attention.rows().slice(g * attention.window(), coefficients.size());
    HWY_DYNAMIC_DISPATCH(CombineBlock)
    ({rows.data + begin, rows.rows, end - begin, rows.stride}, coefficients.data(),
     out.row(g) + begin);
  });
}

void WindowAttention::observe(const LayerObservation& layer, size_t kv_head, size_t window) {
  group_ = layer.queries.heads / layer.keys.heads;
  window_ = window;
  length_ = layer.keys.rows;
  stride_ = padded_stride(length_);
  const size_t rows = group_ * window_;
  if (weights_.size() < rows * stride_) weights_.resize(rows * stride_);
  attend_window(layer, kv_head, 1, window, {}, {weights_.data(), rows, length_, stride_});
}

}  // namespace restkv
#endif  // HWY_ONCE
