#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "attention/attention_precision.h"
#include "attention/softmax_scale.h"
#include "base/threads.h"
#include "compress/finite.h"
#include "restkv/stages.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/window_attention.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "attention/prefill_operands-inl.h"
#include "base/math-inl.h"
#include "hwy/highway.h"

#ifndef RESTKV_COMPRESS_WINDOW_ATTENTION_TYPES_
#define RESTKV_COMPRESS_WINDOW_ATTENTION_TYPES_
namespace restkv {

/// Positions per task: the logits of one block (group * window * 512 floats) stay in the L2 cache
/// between the product, the maximum and the exponential.
constexpr size_t kWindowBlock = 512;

/// One KV head and what is made of it, block by block of positions.
struct WindowTask {
  Heads<const float> queries;  ///< [group, window, d]
  Matrix<const float> keys, values;
  float scale, softcap;
  AttentionPrecision precision;
  Matrix<float> weights;  ///< [group * window, n]: exp(logit - block maximum); room for whole tiles.
  float* maxima;          ///< [blocks, group * window]
  float* sums;            ///< Likewise.
};

}  // namespace restkv
#endif

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Logits [rows, keys.rows] of packed queries, in whole tiles.
template <class Operands>
void BlockLogits(const Operands& queries, Matrix<const float> keys, Matrix<float> out) {
  thread_local Operands tile;  // kept from call to call
  HWY_ALIGN float last[kTileRows * kTilePositions];
  tile.ResizeKeys(keys.cols);
  for (size_t c = 0; c < keys.rows; c += kTilePositions) {
    tile.SetKeys(keys.row(c), HWY_MIN(kTilePositions, keys.rows - c), keys.stride);
    size_t row = 0;
    for (; row + kTileRows <= out.rows; row += kTileRows) {
      tile.template Logits<false>(queries, row, out.row(row) + c, out.stride);
    }
    if (row == out.rows) continue;
    tile.template Logits<false>(queries, row, last);
    for (size_t i = 0; row + i < out.rows; ++i) {
      std::copy_n(last + i * kTilePositions, kTilePositions, out.row(row + i) + c);
    }
  }
}

/// exp(logit - block maximum) of one block of logits in place, with maximum and sum of every row.
/// Returns false if a logit is NaN or infinite.
bool ExpBlock(Matrix<float> weights, size_t begin, size_t window, size_t past, float softcap,
              float* HWY_RESTRICT maxima, float* HWY_RESTRICT sums) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const size_t columns = weights.cols;
  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  const size_t padded = (columns + lanes - 1) / lanes * lanes;
  const auto zero = hn::Zero(d);
  auto poison = zero;  // becomes NaN as soon as one logit is not finite: inf * 0 = NaN
  for (size_t row = 0; row < weights.rows; ++row) {
    float* HWY_RESTRICT w = weights.row(row);
    // Row r of the window sees positions up to past + r.
    const size_t visible_end = past + row % window + 1;
    const size_t visible = visible_end <= begin ? 0 : HWY_MIN(visible_end - begin, columns);
    const auto seen = [&](size_t c)
                          HWY_ATTR { return hn::FirstN(d, visible - HWY_MIN(visible, c)); };
    auto largest = hn::Set(d, kHidden);
    for (size_t c = 0; c < padded; c += lanes) {
      auto logit = hn::LoadU(d, w + c);
      poison = hn::MulAdd(logit, zero, poison);
      if (softcap > 0.0F) {
        const auto cap = hn::Set(d, softcap);
        logit = hn::Mul(cap, Tanh(d, hn::Div(logit, cap)));
      }
      if (c + lanes > visible) logit = hn::IfThenElse(seen(c), logit, hn::Set(d, kHidden));
      hn::StoreU(logit, d, w + c);
      largest = hn::Max(largest, logit);
    }
    maxima[row] = hn::GetLane(hn::MaxOfLanes(d, largest));
    // A block that the row does not see at all has no maximum, and any base will do.
    const auto base = hn::Set(d, visible == 0 ? 0.0F : maxima[row]);
    auto sum = zero;
    for (size_t c = 0; c < padded; c += lanes) {
      auto e = Exp(d, hn::Sub(hn::LoadU(d, w + c), base));
      if (c + lanes > visible) e = hn::IfThenElseZero(seen(c), e);
      sum = hn::Add(sum, e);
      hn::StoreU(e, d, w + c);
    }
    sums[row] = hn::GetLane(hn::SumOfLanes(d, sum));
  }
  return hn::GetLane(hn::SumOfLanes(d, poison)) == 0.0F;
}

/// All blocks of one KV head. Returns false if something is NaN or infinite.
template <class Operands>
bool AttendBlocks(const WindowTask& t) {
  const size_t window = t.queries.rows;
  const size_t rows = t.weights.rows;
  Operands queries;
  const size_t padded_rows = hwy::RoundUpTo(rows, kTileRows);
  queries.ResizeQueries(padded_rows, t.keys.cols);
  for (size_t i = 0; i < rows; ++i) {
    queries.SetQuery(i, t.queries.row(i / window, i % window), t.scale);
  }
  queries.ClearQueries(rows, padded_rows);
  const size_t n = t.keys.rows;
  std::atomic<bool> finite = true;
  parallel_for(hwy::DivCeil(n, kWindowBlock), [&](size_t block, size_t) {
    const size_t begin = block * kWindowBlock;
    const size_t count = HWY_MIN(kWindowBlock, n - begin);
    const Matrix<float> weights(t.weights.data + begin, rows, count, t.weights.stride);
    BlockLogits(queries, t.keys.slice(begin, count), weights);
    if (!ExpBlock(weights, begin, window, n - window, t.softcap, t.maxima + block * rows,
                  t.sums + block * rows) ||
        !all_finite(t.values.slice(begin, count))) {
      finite = false;
    }
  });
  return finite;
}

bool AttendWindow(const WindowTask& task) {
  bool finite = false;
  WithOperands(task.precision, [&](auto* operands) HWY_ATTR {
    finite = AttendBlocks<std::remove_pointer_t<decltype(operands)>>(task);
  });
  return finite;
}

/// weights[row][c] *= factors[row].
void ScaleBlock(Matrix<float> weights, const float* HWY_RESTRICT factors) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  for (size_t row = 0; row < weights.rows; ++row) {
    float* HWY_RESTRICT w = weights.row(row);
    const auto factor = hn::Set(d, factors[row]);
    for (size_t c = 0; c < weights.cols; c += lanes) {
      hn::StoreU(hn::Mul(hn::LoadU(d, w + c), factor), d, w + c);
    }
  }
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

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(AttendWindow);
HWY_EXPORT(ScaleBlock);
HWY_EXPORT(CombineBlock);

/// Row stride for n columns: whole tiles, and an odd number of cache lines so that the rows of a
/// long prompt do not compete for the same cache sets.
size_t padded_stride(size_t n) {
  const size_t lines = (n + 63) / 64 * 4;
  return (lines + 1) * 16;
}

}  // namespace

void WindowAttention::observe(const LayerObservation& layer, size_t kv_head, size_t window) {
  require_support(layer.precision);
  group_ = layer.queries.heads / layer.keys.heads;
  window_ = window;
  length_ = layer.keys.rows;
  stride_ = padded_stride(length_);
  scaled_ = false;
  const size_t rows = group_ * window_;
  if (weights_.size() < rows * stride_) weights_.resize(rows * stride_);
  const size_t blocks = (length_ + kWindowBlock - 1) / kWindowBlock;
  std::vector<float> maxima(blocks * rows);
  std::vector<float> sums(blocks * rows);
  const WindowTask task{
      .queries = layer.queries.slice_heads(kv_head * group_, group_)
                     .slice_rows(layer.queries.rows - window, window),
      .keys = layer.keys.head(kv_head),
      .values = layer.values.head(kv_head),
      .scale = softmax_scale(layer.scale, layer.keys.dim),
      .softcap = layer.softcap,
      .precision = layer.precision,
      .weights = {weights_.data(), rows, length_, stride_},
      .maxima = maxima.data(),
      .sums = sums.data(),
  };
  if (!HWY_DYNAMIC_DISPATCH(AttendWindow)(task)) throw_not_finite(layer, kv_head, window_);

  factors_.resize(blocks * rows);
  for (size_t row = 0; row < rows; ++row) {
    float largest = maxima[row];
    for (size_t b = 1; b < blocks; ++b) largest = std::max(largest, maxima[b * rows + row]);
    double total = 0.0;
    for (size_t b = 0; b < blocks; ++b) {
      total += double{sums[b * rows + row]} * std::exp(double{maxima[b * rows + row]} - largest);
    }
    for (size_t b = 0; b < blocks; ++b) {
      factors_[b * rows + row] =
          static_cast<float>(std::exp(double{maxima[b * rows + row]} - largest) / total);
    }
  }
}

Matrix<const float> WindowAttention::rows() {
  const size_t rows = group_ * window_;
  if (!scaled_) {
    parallel_for(factors_.size() / rows, [&](size_t block, size_t) {
      const size_t begin = block * kWindowBlock;
      HWY_DYNAMIC_DISPATCH(ScaleBlock)
      ({weights_.data() + begin, rows, std::min(kWindowBlock, length_ - begin), stride_},
       &factors_[block * rows]);
    });
    std::fill(factors_.begin(), factors_.end(), 1.0F);
    scaled_ = true;
  }
  return {weights_.data(), rows, length_, stride_};
}

void combine_rows(const WindowAttention& attention, std::span<const float> coefficients,
                  Matrix<float> out, size_t first_row) {
  const size_t blocks = (out.cols + kWindowBlock - 1) / kWindowBlock;
  const size_t rows = attention.group_ * attention.window_;
  parallel_for(blocks * out.rows, [&](size_t task, size_t) {
    const size_t block = task / out.rows;
    const size_t g = task % out.rows;
    const size_t row = g * attention.window_ + first_row;
    const size_t begin = block * kWindowBlock;
    std::vector<float> factors(coefficients.begin(), coefficients.end());
    for (size_t r = 0; r < factors.size(); ++r) {
      factors[r] *= attention.factors_[block * rows + row + r];
    }
    HWY_DYNAMIC_DISPATCH(CombineBlock)
    ({attention.weights_.data() + row * attention.stride_ + begin, factors.size(),
      std::min(kWindowBlock, out.cols - begin), attention.stride_},
     factors.data(), out.row(g) + begin);
  });
}

}  // namespace restkv
#endif
