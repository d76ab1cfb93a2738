#include "linear/few_rows.h"

#include <algorithm>
#include <array>

#include "restkv/aligned.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linear/few_rows.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"
#include "linear/unpack-inl.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Weight rows of the register tile: the number of lanes of a 128-bit vector.
constexpr size_t kTileWeights = 4;
/// Rows of x of the register tile. Sums take 24 of the 32 registers of AVX-512 and NEON, and 8 of
/// the 16 of AVX2.
#if HWY_TARGET == HWY_AVX2
constexpr size_t kTileInputs = 2;
#else
constexpr size_t kTileInputs = 6;
#endif
/// Bytes of unpacked weights: a part of the second-level cache.
constexpr size_t kPanelBytes = 128 * 1024;

#if HWY_TARGET == HWY_SCALAR
HWY_INLINE void StoreSums(UnpackTag, hn::Vec<UnpackTag> a, hn::Vec<UnpackTag> b,
                          hn::Vec<UnpackTag> c, hn::Vec<UnpackTag> e, float* out) {
  out[0] = hn::GetLane(a);
  out[1] = hn::GetLane(b);
  out[2] = hn::GetLane(c);
  out[3] = hn::GetLane(e);
}
#else
template <class D>
HWY_INLINE hn::Vec<hn::Full128<float>> SumOfBlocks([[maybe_unused]] D d, hn::Vec<D> v) {
  if constexpr (hn::MaxLanes(D()) == 4) {
    return v;
  } else {
    const hn::Half<D> dh;
    return SumOfBlocks(dh, hn::Add(hn::LowerHalf(dh, v), hn::UpperHalf(dh, v)));
  }
}

/// out[0..4) = the sums of the lanes of a, b, c and e. Interleaving adds two vectors at a time.
HWY_INLINE void StoreSums(UnpackTag d, hn::Vec<UnpackTag> a, hn::Vec<UnpackTag> b,
                          hn::Vec<UnpackTag> c, hn::Vec<UnpackTag> e, float* out) {
  const hn::Repartition<uint64_t, UnpackTag> d64;
  const auto ab =
      hn::BitCast(d64, hn::Add(hn::InterleaveLower(d, a, b), hn::InterleaveUpper(d, a, b)));
  const auto ce =
      hn::BitCast(d64, hn::Add(hn::InterleaveLower(d, c, e), hn::InterleaveUpper(d, c, e)));
  const auto lower = hn::BitCast(d, hn::InterleaveLower(d64, ab, ce));
  const auto upper = hn::BitCast(d, hn::InterleaveUpper(d64, ab, ce));
  hn::StoreU(SumOfBlocks(d, hn::Add(lower, upper)), hn::Full128<float>(), out);
}
#endif

/// y[i][0..weights) = x_i . w_j for kInputs rows of x and up to kTileWeights rows of w.
template <size_t kInputs>
HWY_INLINE void DotTile(size_t depth, const float* HWY_RESTRICT x, size_t x_stride,
                        const float* HWY_RESTRICT w, size_t weights, float* HWY_RESTRICT y,
                        size_t y_stride) {
  const UnpackTag d;
  constexpr size_t kLanes = hn::MaxLanes(UnpackTag());
  hn::Vec<UnpackTag> sum[kInputs][kTileWeights];
#pragma GCC unroll 8
  for (size_t i = 0; i < kInputs; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < kTileWeights; ++j) sum[i][j] = hn::Zero(d);
  }
  size_t k = 0;
  for (; k + kLanes <= depth; k += kLanes) {
    hn::Vec<UnpackTag> column[kTileWeights];
#pragma GCC unroll 8
    for (size_t j = 0; j < kTileWeights; ++j) column[j] = hn::LoadU(d, w + j * depth + k);
#pragma GCC unroll 8
    for (size_t i = 0; i < kInputs; ++i) {
      const auto v = hn::LoadU(d, x + i * x_stride + k);
#pragma GCC unroll 8
      for (size_t j = 0; j < kTileWeights; ++j) sum[i][j] = hn::MulAdd(v, column[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < kInputs; ++i) {
    std::array<float, kTileWeights> sums;
    StoreSums(d, sum[i][0], sum[i][1], sum[i][2], sum[i][3], sums.data());
    for (size_t j = 0; j < weights; ++j) {
      for (size_t t = k; t < depth; ++t) sums[j] += x[i * x_stride + t] * w[j * depth + t];
      y[i * y_stride + j] = sums[j];
    }
  }
}

/// Multiplies up to kInputs rows of x from `row` on with `weights` rows of w. Returns their number.
template <size_t kInputs = kTileInputs>
HWY_INLINE size_t DotStrip(const Matrix<const float>& x, size_t row, const float* HWY_RESTRICT w,
                           size_t weights, const Matrix<float>& y) {
  if constexpr (kInputs > 1) {
    if (x.rows - row < kInputs) return DotStrip<kInputs - 1>(x, row, w, weights, y);
  }
  for (size_t j = 0; j < weights; j += kTileWeights) {
    DotTile<kInputs>(x.cols, x.row(row), x.stride, w + j * x.cols,
                     std::min(kTileWeights, weights - j), y.row(row) + j, y.stride);
  }
  return kInputs;
}

void DequantizeRow(const Weight& weight, size_t r, float* out) {
  UnpackRow(weight.type, weight.row(r), weight.cols, out);
  if (weight.scale == 1) return;
  for (size_t i = 0; i < weight.cols; ++i) out[i] *= weight.scale;
}

void MultiplyUnpacked(const Matrix<const float>& x, const Weight& weight, size_t begin, size_t end,
                      const Matrix<float>& y) {
  const size_t depth = weight.cols;
  const size_t panel_rows =
      std::max<size_t>(1, kPanelBytes / (kTileWeights * depth * sizeof(float))) * kTileWeights;
  thread_local AlignedVector<float> panel;  // reused between calls
  if (panel.size() < panel_rows * depth) panel.resize(panel_rows * depth);
  for (size_t r = begin; r < end; r += panel_rows) {
    const size_t rows = std::min(panel_rows, end - r);
    for (size_t i = 0; i < rows; ++i) DequantizeRow(weight, r + i, panel.data() + i * depth);
    // The tile reads kTileWeights rows: missing ones repeat the last row.
    for (size_t i = rows; i % kTileWeights != 0; ++i) {
      std::copy_n(panel.data() + (rows - 1) * depth, depth, panel.data() + i * depth);
    }
    const Matrix<float> part(y.data + (r - begin), y.rows, rows, y.stride);
    for (size_t i = 0; i < x.rows;) i += DotStrip(x, i, panel.data(), rows, part);
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(DequantizeRow);
HWY_EXPORT(MultiplyUnpacked);

void unpack_row(const Weight& weight, size_t r, float* out) {
  HWY_DYNAMIC_DISPATCH(DequantizeRow)(weight, r, out);
}

void multiply_unpacked(Matrix<const float> x, const Weight& weight, size_t begin, size_t end,
                       Matrix<float> y) {
  HWY_DYNAMIC_DISPATCH(MultiplyUnpacked)(x, weight, begin, end, y);
}

}  // namespace restkv
#endif  // HWY_ONCE
