// Products of bfloat16 numbers with sums in float32 (VDPBF16PS), which Highway 1.0 does not
// support. Included once per SIMD target; empty where RESTKV_BF16_PRODUCTS is 0.
//
// The instruction multiplies pairs and adds both products to a float. Two neighbours along the
// summed dimension share 32 bits: a `Bf16Pair`, the earlier one in the lower half. Numbers are
// rounded to nearest, ties to even; denormal ones count as 0.

#if defined(RESTKV_BASE_BF16_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESTKV_BASE_BF16_INL_H_
#undef RESTKV_BASE_BF16_INL_H_
#else
#define RESTKV_BASE_BF16_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/gemm-inl.h"
#include "hwy/highway.h"

#undef RESTKV_BF16_PRODUCTS
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
#define RESTKV_BF16_PRODUCTS 1

#include <immintrin.h>

// These functions need more than the target guarantees: callers must check the processor.
HWY_PUSH_ATTRIBUTES(HWY_TARGET_STR ",avx512bf16")
namespace restkv::HWY_NAMESPACE {

using Bf16Pair = uint32_t;

/// The lowest n of 16 lanes.
HWY_INLINE __mmask16 FirstLanes(size_t n) {
  return static_cast<__mmask16>(n >= 16 ? 0xffffU : (1U << n) - 1U);
}

/// Elements [begin, begin + 16) of a row of n numbers; 0 beyond its end.
HWY_INLINE __m512 LoadPart(const float* row, size_t begin, size_t n) {
  begin = std::min(begin, n);
  return _mm512_maskz_loadu_ps(FirstLanes(n - begin), row + begin);
}

/// 32 rounded numbers: those of `low`, then those of `high`.
HWY_INLINE __m512i RoundToBf16(__m512 low, __m512 high) {
  return reinterpret_cast<__m512i>(_mm512_cvtne2ps_pbh(high, low));
}

/// to[pairs] = pairs of neighbours in a row of n numbers, times `factor`; beyond its end 0.
inline HWY_NOINLINE void PackBf16Row(const float* HWY_RESTRICT row, size_t n, float factor,
                                     Bf16Pair* HWY_RESTRICT to, size_t pairs) {
  const __m512 scale = _mm512_set1_ps(factor);
  size_t p = 0;
  for (; p + 16 <= n / 2; p += 16) {
    const __m512 low = _mm512_mul_ps(_mm512_loadu_ps(row + 2 * p), scale);
    const __m512 high = _mm512_mul_ps(_mm512_loadu_ps(row + 2 * p + 16), scale);
    _mm512_storeu_si512(to + p, RoundToBf16(low, high));
  }
  for (; p < pairs; p += 16) {
    const __m512 low = _mm512_mul_ps(LoadPart(row, 2 * p, n), scale);
    const __m512 high = _mm512_mul_ps(LoadPart(row, 2 * p + 16, n), scale);
    _mm512_mask_storeu_epi32(to + p, FirstLanes(pairs - p), RoundToBf16(low, high));
  }
}

/// to[pairs of columns][stride]: pairs of neighbours in the rows of src [rows, cols], transposed.
/// `stride` is a multiple of 16. Missing rows and the missing half of a last pair become zeros.
inline HWY_NOINLINE void PackBf16Transposed(const float* HWY_RESTRICT src, size_t rows, size_t cols,
                                            size_t src_stride, Bf16Pair* HWY_RESTRICT to,
                                            size_t stride) {
  const hn::Full512<uint32_t> d;
  const size_t pairs = (cols + 1) / 2;
  for (size_t r = 0; r < stride; r += 16) {
    for (size_t p = 0; p < pairs; p += 16) {
      const bool whole = r + 16 <= rows && 2 * p + 32 <= cols;  // no masks needed
      hn::Vec512<uint32_t> block[16];
#pragma GCC unroll 16
      for (size_t i = 0; i < 16; ++i) {
        const float* row = src + std::min(r + i, rows - 1) * src_stride;
        if (whole) {
          block[i] = hn::Vec512<uint32_t>{
              RoundToBf16(_mm512_loadu_ps(row + 2 * p), _mm512_loadu_ps(row + 2 * p + 16))};
          continue;
        }
        const size_t there = r + i < rows ? cols : 0;
        block[i] = hn::Vec512<uint32_t>{
            RoundToBf16(LoadPart(row, 2 * p, there), LoadPart(row, 2 * p + 16, there))};
      }
      Transpose16(block);
      for (size_t i = 0; i < std::min<size_t>(16, pairs - p); ++i) {
        hn::StoreU(block[i], d, to + (p + i) * stride + r);
      }
    }
  }
}

/// to[ceil(rows / 2)][stride]: rows 2 i and 2 i + 1 of src [rows, cols] become pairs column by
/// column. `stride` is a multiple of 16. A missing row and missing columns become zeros.
inline HWY_NOINLINE void PackBf16Columns(const float* HWY_RESTRICT src, size_t rows, size_t cols,
                                         size_t src_stride, Bf16Pair* HWY_RESTRICT to,
                                         size_t stride) {
  // Element 2 i of the result is element i of the first row, 2 i + 1 is element i of the second.
  const __m512i lane = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
  const __m512i order =
      _mm512_or_epi32(lane, _mm512_slli_epi32(_mm512_add_epi32(lane, _mm512_set1_epi32(16)), 16));
  for (size_t r = 0; r < rows; r += 2, to += stride) {
    const float* first = src + r * src_stride;
    const bool paired = r + 1 < rows;
    size_t c = 0;
    for (; paired && c + 16 <= cols; c += 16) {
      const __m512i rounded =
          RoundToBf16(_mm512_loadu_ps(first + c), _mm512_loadu_ps(first + src_stride + c));
      _mm512_storeu_si512(to + c, _mm512_permutexvar_epi16(order, rounded));
    }
    for (; c < stride; c += 16) {
      const __m512 high = paired ? LoadPart(first + src_stride, c, cols) : _mm512_setzero_ps();
      _mm512_storeu_si512(
          to + c, _mm512_permutexvar_epi16(order, RoundToBf16(LoadPart(first, c, cols), high)));
    }
  }
}

/// kTileRows x (kVectors * 16) of C = A * B (+ C), see `Bf16StripProduct`.
template <size_t kVectors, bool kAccumulate>
HWY_INLINE void Bf16TileProduct(size_t pairs, const Bf16Pair* HWY_RESTRICT a, size_t a_stride,
                                const Bf16Pair* HWY_RESTRICT b, size_t b_stride,
                                float* HWY_RESTRICT c, size_t c_stride) {
  __m512 sum[kTileRows][kVectors];
#pragma GCC unroll 8
  for (size_t i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) {
      sum[i][j] = kAccumulate ? _mm512_loadu_ps(c + i * c_stride + j * 16) : _mm512_setzero_ps();
    }
  }
  for (size_t k = 0; k < pairs; ++k) {
    __m512i row[kVectors];
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) row[j] = _mm512_loadu_si512(b + k * b_stride + j * 16);
#pragma GCC unroll 8
    for (size_t i = 0; i < kTileRows; ++i) {
      const __m512i x = _mm512_set1_epi32(static_cast<int>(a[i * a_stride + k]));
#pragma GCC unroll 8
      for (size_t j = 0; j < kVectors; ++j) {
        sum[i][j] = _mm512_dpbf16_ps(sum[i][j], reinterpret_cast<__m512bh>(x),
                                     reinterpret_cast<__m512bh>(row[j]));
      }
    }
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < kTileRows; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) _mm512_storeu_ps(c + i * c_stride + j * 16, sum[i][j]);
  }
}

/// kTileRows rows of C = A * B (+ C): A [kTileRows, pairs] and B [pairs, cols] hold pairs along the
/// summed dimension, C [kTileRows, cols] is float32. `cols` is a multiple of 16.
template <bool kAccumulate>
inline HWY_NOINLINE void Bf16StripProduct(size_t cols, size_t pairs, const Bf16Pair* HWY_RESTRICT a,
                                          size_t a_stride, const Bf16Pair* HWY_RESTRICT b,
                                          size_t b_stride, float* HWY_RESTRICT c, size_t c_stride) {
  constexpr size_t kColumns = kTileVectors * 16;
  size_t j = 0;
  for (; j + kColumns <= cols; j += kColumns) {
    Bf16TileProduct<kTileVectors, kAccumulate>(pairs, a, a_stride, b + j, b_stride, c + j,
                                               c_stride);
  }
  for (; j < cols; j += 16) {
    Bf16TileProduct<1, kAccumulate>(pairs, a, a_stride, b + j, b_stride, c + j, c_stride);
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_POP_ATTRIBUTES
#else
#define RESTKV_BF16_PRODUCTS 0
#endif

#endif
