// Tiles of keys or values turned so that positions run along the vector lanes. Included once per
// SIMD target (see hwy/foreach_target.h).

#if defined(RESTKV_COMPRESS_TRANSPOSE_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESTKV_COMPRESS_TRANSPOSE_INL_H_
#undef RESTKV_COMPRESS_TRANSPOSE_INL_H_
#else
#define RESTKV_COMPRESS_TRANSPOSE_INL_H_
#endif

#include <cstddef>

#include "base/gemm-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Positions per tile: a multiple of every target's vector length, and wide enough to fill the
/// register tile of `SmallProduct`.
inline constexpr size_t kTilePositions = 64;

/// dst[c][p] = src[p][c] for `positions` <= kTilePositions rows of `dim` floats; dst is
/// [dim, kTilePositions] with zeros in the columns that have no position.
HWY_INLINE void TransposeTile(const float* HWY_RESTRICT src, size_t positions, size_t dim,
                              size_t src_stride, float* HWY_RESTRICT dst) {
  size_t p = 0;
#if HWY_TARGET != HWY_SCALAR
  const hn::Full128<float> d4;
  const hn::Full128<uint64_t> d2;
  const size_t dim4 = dim / 4 * 4;
  for (; p + 4 <= positions; p += 4) {
    const float* HWY_RESTRICT row = src + p * src_stride;
    for (size_t c = 0; c < dim4; c += 4) {
      const auto r0 = hn::LoadU(d4, row + c);
      const auto r1 = hn::LoadU(d4, row + src_stride + c);
      const auto r2 = hn::LoadU(d4, row + 2 * src_stride + c);
      const auto r3 = hn::LoadU(d4, row + 3 * src_stride + c);
      // Pairs of rows interleaved: (r0[0] r1[0] r0[1] r1[1]) and so on.
      const auto low01 = hn::BitCast(d2, hn::InterleaveLower(d4, r0, r1));
      const auto low23 = hn::BitCast(d2, hn::InterleaveLower(d4, r2, r3));
      const auto high01 = hn::BitCast(d2, hn::InterleaveUpper(d4, r0, r1));
      const auto high23 = hn::BitCast(d2, hn::InterleaveUpper(d4, r2, r3));
      float* HWY_RESTRICT column = dst + c * kTilePositions + p;
      hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(d2, low01, low23)), d4, column);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(d2, low01, low23)), d4,
                 column + kTilePositions);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(d2, high01, high23)), d4,
                 column + 2 * kTilePositions);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(d2, high01, high23)), d4,
                 column + 3 * kTilePositions);
    }
    for (size_t c = dim4; c < dim; ++c) {
      for (size_t i = 0; i < 4; ++i) dst[c * kTilePositions + p + i] = row[i * src_stride + c];
    }
  }
#endif
  for (size_t c = 0; c < dim; ++c) {
    for (size_t i = p; i < positions; ++i) dst[c * kTilePositions + i] = src[i * src_stride + c];
    for (size_t i = positions; i < kTilePositions; ++i) dst[c * kTilePositions + i] = 0.0F;
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
