// Small in-cache matrix products, the building block of every kernel written here. Included once
// per SIMD target (see hwy/foreach_target.h); everything lives in the target's namespace.

#if defined(RESTKV_BASE_GEMM_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESTKV_BASE_GEMM_INL_H_
#undef RESTKV_BASE_GEMM_INL_H_
#else
#define RESTKV_BASE_GEMM_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Rows of the register tile, and vectors per row: 6 x 4 fills the 32 registers of AVX-512 and
/// NEON, 6 x 2 the 16 registers of AVX2, with room for one row of B and a broadcast.
inline constexpr size_t kTileRows = 6;
#if HWY_TARGET == HWY_AVX2
inline constexpr size_t kTileVectors = 2;
#else
inline constexpr size_t kTileVectors = 4;
#endif

/// Keys or values that kernels transpose at a time, so that positions run along the vector lanes.
/// It is a multiple of every target's vector length and wide enough to fill the register tile. A
/// transposed tile of 64 channels fits a 32 KiB L1 cache beside the rows it is multiplied with.
inline constexpr size_t kTilePositions = 64;

/// Copies one row of a tile for up to kTilePositions positions.
HWY_INLINE void CopyPositions(const float* HWY_RESTRICT from, size_t positions,
                              float* HWY_RESTRICT to) {
  if (HWY_LIKELY(positions == kTilePositions)) {
    std::memcpy(to, from, kTilePositions * sizeof(float));  // a constant size needs no call
  } else {
    std::copy_n(from, positions, to);
  }
}

/// C[kRows][kVectors * lanes] = A * B (+ C if kAccumulate), held in registers over all of `depth`.
template <size_t kRows, size_t kVectors, bool kAccumulate, class D, class T = hn::TFromD<D>>
HWY_INLINE void TileProduct(D d, size_t depth, const T* HWY_RESTRICT a, size_t a_stride,
                            const T* HWY_RESTRICT b, size_t b_stride, T* HWY_RESTRICT c,
                            size_t c_stride) {
  constexpr size_t kLanes = hn::MaxLanes(D());
  hn::Vec<D> sum[kRows][kVectors];
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) {
      sum[i][j] = kAccumulate ? hn::LoadU(d, c + i * c_stride + j * kLanes) : hn::Zero(d);
    }
  }
  for (size_t k = 0; k < depth; ++k) {
    hn::Vec<D> column[kVectors];
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) column[j] = hn::LoadU(d, b + k * b_stride + j * kLanes);
#pragma GCC unroll 8
    for (size_t i = 0; i < kRows; ++i) {
      const auto x = hn::Set(d, a[i * a_stride + k]);
#pragma GCC unroll 8
      for (size_t j = 0; j < kVectors; ++j) sum[i][j] = hn::MulAdd(x, column[j], sum[i][j]);
    }
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) {
      hn::StoreU(sum[i][j], d, c + i * c_stride + j * kLanes);
    }
  }
}

/// kRows rows of C = A * B (+ C). `cols` is a multiple of the vector length.
template <size_t kRows, bool kAccumulate, class D, class T = hn::TFromD<D>>
HWY_INLINE void StripProduct(D d, size_t cols, size_t depth, const T* HWY_RESTRICT a,
                             size_t a_stride, const T* HWY_RESTRICT b, size_t b_stride,
                             T* HWY_RESTRICT c, size_t c_stride) {
  constexpr size_t kLanes = hn::MaxLanes(D());
  size_t j = 0;
  for (; j + kTileVectors * kLanes <= cols; j += kTileVectors * kLanes) {
    TileProduct<kRows, kTileVectors, kAccumulate>(d, depth, a, a_stride, b + j, b_stride, c + j,
                                                  c_stride);
  }
  for (; j < cols; j += kLanes) {
    TileProduct<kRows, 1, kAccumulate>(d, depth, a, a_stride, b + j, b_stride, c + j, c_stride);
  }
}

/// C = A * B (+ C): A [rows, depth], B [depth, cols], C [rows, cols], all row-major with strides in
/// elements; `cols` is a multiple of the vector length (pad B and C). Meant for operands that fit
/// the cache: there is no blocking beyond registers.
template <bool kAccumulate, class D, class T = hn::TFromD<D>>
HWY_NOINLINE void SmallProduct(D d, size_t rows, size_t cols, size_t depth, const T* HWY_RESTRICT a,
                               size_t a_stride, const T* HWY_RESTRICT b, size_t b_stride,
                               T* HWY_RESTRICT c, size_t c_stride) {
  size_t i = 0;
  for (; i + kTileRows <= rows; i += kTileRows) {
    StripProduct<kTileRows, kAccumulate>(d, cols, depth, a + i * a_stride, a_stride, b, b_stride,
                                         c + i * c_stride, c_stride);
  }
  for (; i < rows; ++i) {
    StripProduct<1, kAccumulate>(d, cols, depth, a + i * a_stride, a_stride, b, b_stride,
                                 c + i * c_stride, c_stride);
  }
}

#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
/// Transposes 16 x 16 elements of 32 bits: each vector is a row, then a column.
HWY_INLINE void Transpose16(hn::Vec512<uint32_t> (&rows)[16]) {
  const hn::Full512<uint32_t> d;
  const hn::Full512<uint64_t> d2;
  using V = hn::Vec512<uint32_t>;
  // Within four rows, lane 4 b + i of column j becomes lane 4 b + j of row i.
  V four[4][4];
#pragma GCC unroll 4
  for (size_t q = 0; q < 4; ++q) {
    const V* row = rows + 4 * q;
    const auto low01 = hn::BitCast(d2, hn::InterleaveLower(d, row[0], row[1]));
    const auto low23 = hn::BitCast(d2, hn::InterleaveLower(d, row[2], row[3]));
    const auto high01 = hn::BitCast(d2, hn::InterleaveUpper(d, row[0], row[1]));
    const auto high23 = hn::BitCast(d2, hn::InterleaveUpper(d, row[2], row[3]));
    four[q][0] = hn::BitCast(d, hn::InterleaveLower(d2, low01, low23));
    four[q][1] = hn::BitCast(d, hn::InterleaveUpper(d2, low01, low23));
    four[q][2] = hn::BitCast(d, hn::InterleaveLower(d2, high01, high23));
    four[q][3] = hn::BitCast(d, hn::InterleaveUpper(d2, high01, high23));
  }
  // Blocks of 4 lanes with the same number in the four quadruples make a column.
#pragma GCC unroll 4
  for (size_t j = 0; j < 4; ++j) {
    const auto even01 = _mm512_shuffle_i32x4(four[0][j].raw, four[1][j].raw, 0x88);
    const auto even23 = _mm512_shuffle_i32x4(four[2][j].raw, four[3][j].raw, 0x88);
    const auto odd01 = _mm512_shuffle_i32x4(four[0][j].raw, four[1][j].raw, 0xdd);
    const auto odd23 = _mm512_shuffle_i32x4(four[2][j].raw, four[3][j].raw, 0xdd);
    rows[j] = V{_mm512_shuffle_i32x4(even01, even23, 0x88)};
    rows[4 + j] = V{_mm512_shuffle_i32x4(odd01, odd23, 0x88)};
    rows[8 + j] = V{_mm512_shuffle_i32x4(even01, even23, 0xdd)};
    rows[12 + j] = V{_mm512_shuffle_i32x4(odd01, odd23, 0xdd)};
  }
}
#endif

/// dst[c][r] = src[r][c] for `rows` x `cols`; columns rows..padded_rows-1 of dst become zero.
HWY_INLINE void TransposePadded(const float* HWY_RESTRICT src, size_t rows, size_t cols,
                                size_t src_stride, float* HWY_RESTRICT dst, size_t dst_stride,
                                size_t padded_rows) {
  size_t r = 0;
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  if (cols % 16 == 0) {
    const hn::Full512<float> d16;
    const hn::Full512<uint32_t> du16;
    for (; r + 16 <= rows; r += 16) {
      for (size_t c = 0; c < cols; c += 16) {
        hn::Vec512<uint32_t> block[16];
#pragma GCC unroll 16
        for (size_t i = 0; i < 16; ++i) {
          block[i] = hn::BitCast(du16, hn::LoadU(d16, src + (r + i) * src_stride + c));
        }
        Transpose16(block);
#pragma GCC unroll 16
        for (size_t i = 0; i < 16; ++i) {
          hn::StoreU(hn::BitCast(d16, block[i]), d16, dst + (c + i) * dst_stride + r);
        }
      }
    }
  }
#endif
#if HWY_TARGET != HWY_SCALAR
  // Blocks of 4 x 4: pairs of rows are interleaved, then pairs of pairs.
  const hn::Full128<float> d4;
  const hn::Full128<uint64_t> d2;
  const size_t cols4 = cols / 4 * 4;
  for (; r + 4 <= rows; r += 4) {
    const float* HWY_RESTRICT row = src + r * src_stride;
    for (size_t c = 0; c < cols4; c += 4) {
      const auto r0 = hn::LoadU(d4, row + c);
      const auto r1 = hn::LoadU(d4, row + src_stride + c);
      const auto r2 = hn::LoadU(d4, row + 2 * src_stride + c);
      const auto r3 = hn::LoadU(d4, row + 3 * src_stride + c);
      const auto low01 = hn::BitCast(d2, hn::InterleaveLower(d4, r0, r1));
      const auto low23 = hn::BitCast(d2, hn::InterleaveLower(d4, r2, r3));
      const auto high01 = hn::BitCast(d2, hn::InterleaveUpper(d4, r0, r1));
      const auto high23 = hn::BitCast(d2, hn::InterleaveUpper(d4, r2, r3));
      float* HWY_RESTRICT column = dst + c * dst_stride + r;
      hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(d2, low01, low23)), d4, column);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(d2, low01, low23)), d4, column + dst_stride);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveLower(d2, high01, high23)), d4,
                 column + 2 * dst_stride);
      hn::StoreU(hn::BitCast(d4, hn::InterleaveUpper(d2, high01, high23)), d4,
                 column + 3 * dst_stride);
    }
    for (size_t c = cols4; c < cols; ++c) {
      for (size_t i = 0; i < 4; ++i) dst[c * dst_stride + r + i] = row[i * src_stride + c];
    }
  }
#endif
  for (size_t c = 0; c < cols; ++c) {
    for (size_t i = r; i < rows; ++i) dst[c * dst_stride + i] = src[i * src_stride + c];
    for (size_t i = rows; i < padded_rows; ++i) dst[c * dst_stride + i] = 0.0F;
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
