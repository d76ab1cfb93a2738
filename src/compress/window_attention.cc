#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "base/threads.h"
#include "compress/finite.h"
#include "restkv/stages.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/window_attention.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "base/gemm-inl.h"
#include "base/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Logits of one block of positions, then exp(logit - block maximum) in place, with maximum and sum
/// of every row. Returns false if a logit is NaN or infinite.
bool ExpBlock(Matrix<const float> queries, Matrix<const float> keys, size_t begin, size_t window,
              size_t past, float softcap, Matrix<float> weights, float* HWY_RESTRICT maxima,
              float* HWY_RESTRICT sums) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const size_t dim = keys.cols;
  const size_t columns = weights.cols;
  AlignedVector<float> tile(dim * kTilePositions);
  for (size_t c = 0; c < columns; c += kTilePositions) {
    const size_t positions = HWY_MIN(kTilePositions, columns - c);
    TransposePadded(keys.row(begin + c), positions, dim, keys.stride, tile.data(), kTilePositions,
                    kTilePositions);
    SmallProduct<false>(d, queries.rows, (positions + lanes - 1) / lanes * lanes, dim, queries.data,
                        queries.stride, tile.data(), kTilePositions, weights.data + c,
                        weights.stride);
  }

  constexpr float kHidden = -std::numeric_limits<float>::infinity();
  const size_t padded = (columns + lanes - 1) / lanes * lanes;
  const auto zero = hn::Zero(d);
  auto poison = zero;  // becomes NaN as soon as one logit is not finite: inf * 0 = NaN
  for (size_t row = 0; row < queries.rows; ++row) {
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

HWY_EXPORT(ExpBlock);
HWY_EXPORT(ScaleBlock);
HWY_EXPORT(CombineBlock);

/// Positions per task: the logits of one block (group * window * 512 floats) stay in the L2 cache
/// between the product, the maximum and the exponential.
constexpr size_t kBlock = 512;

/// Row stride for n columns: whole tiles, and an odd number of cache lines so that the rows of a
/// long prompt do not compete for the same cache sets.
size_t padded_stride(size_t n) {
  const size_t lines = (n + 63) / 64 * 4;
  return (lines + 1) * 16;
}

/// The window's queries of one group as contiguous rows, multiplied by the softmax scale.
AlignedVector<float> scaled_queries(const LayerObservation& layer, size_t first_head, size_t group,
                                    size_t window) {
  const size_t dim = layer.keys.dim;
  const float scale =
      layer.scale != 0.0F ? layer.scale : static_cast<float>(1.0 / std::sqrt(double(dim)));
  AlignedVector<float> rows(group * window * dim);
  float* out = rows.data();
  for (size_t g = 0; g < group; ++g) {
    for (size_t r = 0; r < window; ++r) {
      const float* q = layer.queries.row(first_head + g, layer.queries.rows - window + r);
      for (size_t k = 0; k < dim; ++k) *out++ = q[k] * scale;
    }
  }
  return rows;
}

}  // namespace

void WindowAttention::observe(const LayerObservation& layer, size_t kv_head, size_t window) {
  group_ = layer.queries.heads / layer.keys.heads;
  window_ = window;
  length_ = layer.keys.rows;
  stride_ = padded_stride(length_);
  const size_t rows = group_ * window_;
  if (weights_.size() < rows * stride_) weights_.resize(rows * stride_);

  const size_t dim = layer.keys.dim;
  const auto queries = scaled_queries(layer, kv_head * group_, group_, window_);
  const size_t blocks = (length_ + kBlock - 1) / kBlock;
  const auto block_columns = [&](size_t block) {
    const size_t begin = block * kBlock;
    return Matrix<float>(weights_.data() + begin, rows, std::min(kBlock, length_ - begin), stride_);
  };

  std::vector<float> maxima(blocks * rows);
  std::vector<float> sums(blocks * rows);
  parallel_for(blocks, [&](size_t block, size_t) {
    const Matrix<float> columns = block_columns(block);
    const bool finite = HWY_DYNAMIC_DISPATCH(ExpBlock)(
        {queries.data(), rows, dim}, layer.keys.head(kv_head), block * kBlock, window_, past(),
        layer.softcap, columns, &maxima[block * rows], &sums[block * rows]);
    if (!finite || !all_finite(layer.values.head(kv_head).slice(block * kBlock, columns.cols))) {
      throw_not_finite(layer, kv_head, window_);
    }
  });

  // Blocks hold exp(logit - block maximum); these factors turn them into one softmax.
  std::vector<float> factors(blocks * rows);
  for (size_t row = 0; row < rows; ++row) {
    float largest = maxima[row];
    for (size_t b = 1; b < blocks; ++b) largest = std::max(largest, maxima[b * rows + row]);
    double total = 0.0;
    for (size_t b = 0; b < blocks; ++b) {
      total += double{sums[b * rows + row]} * std::exp(double{maxima[b * rows + row]} - largest);
    }
    for (size_t b = 0; b < blocks; ++b) {
      factors[b * rows + row] =
          static_cast<float>(std::exp(double{maxima[b * rows + row]} - largest) / total);
    }
  }
  parallel_for(blocks, [&](size_t block, size_t) {
    HWY_DYNAMIC_DISPATCH(ScaleBlock)(block_columns(block), &factors[block * rows]);
  });
}

void combine_rows(const WindowAttention& attention, std::span<const float> coefficients,
                  Matrix<float> out, size_t first_row) {
  const size_t blocks = (out.cols + kBlock - 1) / kBlock;
  parallel_for(blocks * out.rows, [&](size_t task, size_t) {
    const size_t g = task / blocks;
    const size_t begin = task % blocks * kBlock;
    const auto rows =
        attention.rows().slice(g * attention.window() + first_row, coefficients.size());
    HWY_DYNAMIC_DISPATCH(CombineBlock)
    ({rows.data + begin, rows.rows, std::min(kBlock, out.cols - begin), rows.stride},
     coefficients.data(), out.row(g) + begin);
  });
}

}  // namespace restkv
#endif
