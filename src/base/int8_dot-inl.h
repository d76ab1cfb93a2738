// Dot products of bytes with sums in 32 bits (VPDPBUSD), which Highway 1.0 does not support.
// Included once per SIMD target; empty where RESTKV_INT8_DOT is 0.
//
// The instruction multiplies four unsigned bytes with four signed ones and adds all four products
// to a number of 32 bits. Signed quants become unsigned by adding kByteOffset, which adds
// kByteOffset times the sum of the other side to the result. Sums therefore start at minus that
// product.
//
// Processors without VNNI add two such products in 16 bits (VPMADDUBSW). The sum saturates, so no
// two products may exceed them together.

#if defined(RESTKV_BASE_INT8_DOT_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESTKV_BASE_INT8_DOT_INL_H_
#undef RESTKV_BASE_INT8_DOT_INL_H_
#else
#define RESTKV_BASE_INT8_DOT_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/gemm-inl.h"
#include "hwy/highway.h"

#undef RESTKV_INT8_DOT
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
#define RESTKV_INT8_DOT 1

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using Int8SumTag = hn::ScalableTag<int32_t>;
using Int8Sums = hn::Vec<Int8SumTag>;

inline constexpr int kByteOffset = 128;

/// Rounds x * factor, within +-2^22, to the nearest integers. It takes one instruction and a
/// difference; NearestInt of Highway also checks for overflow.
template <class D, class V = hn::Vec<D>>
HWY_INLINE hn::Vec<hn::RebindToSigned<D>> NearestProduct(D d, V x, V factor) {
  const hn::RebindToSigned<D> di;
  const auto ones = hn::Set(d, 0x1.8p23F);  // floats of this size are integers
  return hn::Sub(hn::BitCast(di, hn::MulAdd(x, factor, ones)), hn::BitCast(di, ones));
}

/// Converts the numbers of four vectors to consecutive bytes; kSigned: -128 to 127, else 0 to 255.
/// Takes a third of the time of four demotions.
template <bool kSigned>
HWY_INLINE Int8Sums DemoteFour(const Int8Sums (&v)[4]) {
#if HWY_TARGET == HWY_AVX2
  const auto first = _mm256_packs_epi32(v[0].raw, v[1].raw);
  const auto second = _mm256_packs_epi32(v[2].raw, v[3].raw);
  const auto bytes =
      kSigned ? _mm256_packs_epi16(first, second) : _mm256_packus_epi16(first, second);
  // Every block of 128 bits now holds four bytes of each vector.
  const auto order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return Int8Sums{_mm256_permutevar8x32_epi32(bytes, order)};
#else
  const auto first = _mm512_packs_epi32(v[0].raw, v[1].raw);
  const auto second = _mm512_packs_epi32(v[2].raw, v[3].raw);
  const auto bytes =
      kSigned ? _mm512_packs_epi16(first, second) : _mm512_packus_epi16(first, second);
  const auto order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  return Int8Sums{_mm512_permutexvar_epi32(order, bytes)};
#endif
}

/// Bits of |x|. They are ordered like the numbers, with NaN above infinity.
HWY_INLINE Int8Sums Magnitude(const float* x) {
  const Int8SumTag di;
  return hn::And(hn::LoadU(di, reinterpret_cast<const int32_t*>(x)), hn::Set(di, 0x7FFFFFFF));
}
inline constexpr int32_t kInfiniteMagnitude = 0x7F800000;
inline constexpr float kLargestInt8 = 127.0F;

/// Quantises x[0..n) to quants of -127 to 127 times a scale, which maps the largest magnitude to
/// 127 and is returned. The scale is NaN if a number is infinite or NaN, so that products become
/// NaN. `sum`, if not null, receives the sum of the quants times -kByteOffset.
HWY_INLINE float RoundToInt8(const float* HWY_RESTRICT x, size_t n, int8_t* HWY_RESTRICT quants,
                             int32_t* HWY_RESTRICT sum = nullptr) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<int8_t, decltype(d)> d8;
  const Int8SumTag di;
  constexpr size_t kLanes = hn::MaxLanes(Int8SumTag());
  const size_t whole = n / kLanes * kLanes;
  HWY_ALIGN float rest[kLanes] = {};
  std::copy_n(x + whole, n - whole, rest);
  auto tops = Magnitude(rest);
  for (size_t i = 0; i < whole; i += kLanes) tops = hn::Max(tops, Magnitude(x + i));
  const int32_t magnitude = hn::GetLane(hn::MaxOfLanes(di, tops));
  if (HWY_UNLIKELY(magnitude >= kInfiniteMagnitude)) {
    std::fill_n(quants, n, int8_t{0});
    if (sum != nullptr) *sum = 0;
    return std::numeric_limits<float>::quiet_NaN();
  }
  float top;
  std::memcpy(&top, &magnitude, sizeof(top));
  const auto inverse = hn::Set(d, top > 0 ? kLargestInt8 / top : 0.0F);  // all are 0 if top is
  auto total = hn::Zero(di);
  const auto round = [&](const float* from) HWY_ATTR {
    const auto quant = NearestProduct(d, hn::LoadU(d, from), inverse);
    total = hn::Add(total, quant);
    return hn::DemoteTo(d8, quant);
  };
  for (size_t i = 0; i < whole; i += kLanes) hn::StoreU(round(x + i), d8, quants + i);
  if (whole < n) {
    HWY_ALIGN int8_t last[kLanes];
    hn::StoreU(round(rest), d8, last);
    std::copy_n(last, n - whole, quants + whole);
  }
  if (sum != nullptr) *sum = -kByteOffset * hn::GetLane(hn::SumOfLanes(di, total));
  return top / kLargestInt8;
}

/// Lane i < 4 of the result is v[i] reduced over all lanes by an associative operation.
template <class Operation>
HWY_INLINE hn::Vec128<int32_t> ReduceFour(const Int8Sums (&v)[4], const Operation& both) {
  const Int8SumTag d;
  const hn::RepartitionToWide<Int8SumTag> pairs;
  const auto first = both(hn::InterleaveLower(d, v[0], v[1]), hn::InterleaveUpper(d, v[0], v[1]));
  const auto second = both(hn::InterleaveLower(d, v[2], v[3]), hn::InterleaveUpper(d, v[2], v[3]));
  const auto low =
      hn::InterleaveLower(pairs, hn::BitCast(pairs, first), hn::BitCast(pairs, second));
  const auto high =
      hn::InterleaveUpper(pairs, hn::BitCast(pairs, first), hn::BitCast(pairs, second));
  const auto fours = both(hn::BitCast(d, low), hn::BitCast(d, high));
  const hn::Half<Int8SumTag> dh;
  const auto halves = both(hn::LowerHalf(dh, fours), hn::UpperHalf(dh, fours));
#if HWY_TARGET == HWY_AVX2
  return halves;
#else
  const hn::Full128<int32_t> d4;
  return both(hn::LowerHalf(d4, halves), hn::UpperHalf(d4, halves));
#endif
}

/// `RoundToInt8` for four rows of x, `x_stride` apart, in half the time. n is a multiple of four
/// vectors, or two vectors with quants_stride == n. Rows of quants are `quants_stride` apart.
/// `scales` [4]; `sums` [4] or null.
HWY_INLINE void RoundFourToInt8(const float* HWY_RESTRICT x, size_t x_stride, size_t n,
                                int8_t* HWY_RESTRICT quants, size_t quants_stride,
                                float* HWY_RESTRICT scales, int32_t* HWY_RESTRICT sums = nullptr) {
  const hn::ScalableTag<float> d;
  const Int8SumTag di;
  const hn::Full128<int32_t> di4;
  const hn::Full128<float> d4;
  constexpr size_t kLanes = hn::MaxLanes(Int8SumTag());
  Int8Sums tops[4];
  for (size_t r = 0; r < 4; ++r) {
    tops[r] = Magnitude(x + r * x_stride);
    for (size_t i = kLanes; i < n; i += kLanes) {
      tops[r] = hn::Max(tops[r], Magnitude(x + r * x_stride + i));
    }
  }
  const auto magnitude = ReduceFour(tops, [](auto a, auto b) HWY_ATTR { return hn::Max(a, b); });
  if (HWY_UNLIKELY(!hn::AllTrue(di4, hn::Lt(magnitude, hn::Set(di4, kInfiniteMagnitude))))) {
    for (size_t r = 0; r < 4; ++r) {
      scales[r] = RoundToInt8(x + r * x_stride, n, quants + r * quants_stride,
                              sums != nullptr ? sums + r : nullptr);
    }
    return;
  }
  const auto top = hn::BitCast(d4, magnitude);
  HWY_ALIGN float inverse[4];
  hn::Store(hn::IfThenElseZero(hn::Gt(top, hn::Zero(d4)), hn::Div(hn::Set(d4, kLargestInt8), top)),
            d4, inverse);
  hn::StoreU(hn::Div(top, hn::Set(d4, kLargestInt8)), d4, scales);
  Int8Sums totals[4];
  const auto round = [&](size_t r, size_t i) HWY_ATTR {
    return NearestProduct(d, hn::LoadU(d, x + r * x_stride + i), hn::Set(d, inverse[r]));
  };
  const auto store = [&](const Int8Sums(&quant)[4], int8_t* to) HWY_ATTR {
    hn::StoreU(DemoteFour<true>(quant), di, reinterpret_cast<int32_t*>(to));
  };
  if (n == 2 * kLanes) {  // two rows make a vector of quants
    for (size_t r = 0; r < 4; r += 2) {
      const Int8Sums quant[4] = {round(r, 0), round(r, kLanes), round(r + 1, 0),
                                 round(r + 1, kLanes)};
      totals[r] = hn::Add(quant[0], quant[1]);
      totals[r + 1] = hn::Add(quant[2], quant[3]);
      store(quant, quants + r * quants_stride);
    }
  } else {
    for (size_t r = 0; r < 4; ++r) {
      totals[r] = hn::Zero(di);
      for (size_t i = 0; i < n; i += 4 * kLanes) {
        const Int8Sums quant[4] = {round(r, i), round(r, i + kLanes), round(r, i + 2 * kLanes),
                                   round(r, i + 3 * kLanes)};
        totals[r] =
            hn::Add(totals[r], hn::Add(hn::Add(quant[0], quant[1]), hn::Add(quant[2], quant[3])));
        store(quant, quants + r * quants_stride + i);
      }
    }
  }
  if (sums == nullptr) return;
  const auto total = ReduceFour(totals, [](auto a, auto b) HWY_ATTR { return hn::Add(a, b); });
  static_assert(kByteOffset == 1 << 7);
  hn::StoreU(hn::Neg(hn::ShiftLeft<7>(total)), di4, sums);
}

/// Quantises n numbers in blocks of kBlock, one scale each; the last block is padded with zeros.
/// `sums` may be null.
template <size_t kBlock>
HWY_INLINE void RoundBlocksToInt8(const float* HWY_RESTRICT x, size_t n,
                                  int8_t* HWY_RESTRICT quants, float* HWY_RESTRICT scales,
                                  int32_t* HWY_RESTRICT sums) {
  size_t b = 0;
  for (; (b + 4) * kBlock <= n; b += 4) {
    RoundFourToInt8(x + b * kBlock, kBlock, kBlock, quants + b * kBlock, kBlock, scales + b,
                    sums != nullptr ? sums + b : nullptr);
  }
  const auto round = [&](const float* block) HWY_ATTR {
    scales[b] =
        RoundToInt8(block, kBlock, quants + b * kBlock, sums != nullptr ? sums + b : nullptr);
  };
  for (; (b + 1) * kBlock <= n; ++b) round(x + b * kBlock);
  if (b * kBlock == n) return;
  HWY_ALIGN float last[kBlock] = {};
  std::copy(x + b * kBlock, x + n, last);
  round(last);
}

/// out [bytes / 4][kColumns][4] = quants [kColumns, bytes] plus kByteOffset: the layout of B in
/// `Int8Factors`. `bytes` is a multiple of 4.
template <size_t kColumns>
HWY_INLINE void PackOffsetBytes(const int8_t* HWY_RESTRICT quants, size_t bytes,
                                uint8_t* HWY_RESTRICT out) {
  size_t k = 0;
#if HWY_TARGET != HWY_AVX2
  const hn::Full512<uint32_t> d;
  static_assert(kColumns % 16 == 0);
  for (; k + 64 <= bytes; k += 64) {
    for (size_t r = 0; r < kColumns; r += 16) {
      hn::Vec512<uint32_t> block[16];
#pragma GCC unroll 16
      for (size_t i = 0; i < 16; ++i) {
        const int8_t* from = quants + (r + i) * bytes + k;
        block[i] =
            hn::Xor(hn::LoadU(d, reinterpret_cast<const uint32_t*>(from)), hn::Set(d, 0x80808080U));
      }
      Transpose16(block);
#pragma GCC unroll 16
      for (size_t i = 0; i < 16; ++i) {
        hn::StoreU(block[i], d,
                   reinterpret_cast<uint32_t*>(out + ((k / 4 + i) * kColumns + r) * 4));
      }
    }
  }
#endif
  for (; k < bytes; k += 4) {
    for (size_t r = 0; r < kColumns; ++r) {
      uint32_t four;
      std::memcpy(&four, quants + r * bytes + k, sizeof(four));
      four ^= 0x80808080U;
      std::memcpy(out + k * kColumns + r * 4, &four, sizeof(four));
    }
  }
}

/// Compilers keep arrays of these in registers, but not always arrays of Highway's vectors.
using RawInt8Sums = decltype(Int8Sums::raw);

/// sums[i] += unsigned bytes 4 i to 4 i + 3 of a, times the signed ones of b. The instruction
/// overwrites its first operand. With inline assembly GCC 12 keeps the sums of a tile in place;
/// with the intrinsic it copies them, which takes half of the time.
HWY_INLINE RawInt8Sums AddInt8Dot(RawInt8Sums sums, RawInt8Sums a, RawInt8Sums b) {
#if HWY_TARGET == HWY_AVX2
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(a), "x"(b));
#else
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(a), "v"(b));
#endif
  return sums;
}

/// Sums in 16 bits of two neighbouring products of unsigned bytes of a with signed ones of b.
HWY_INLINE RawInt8Sums MultiplyPairs(RawInt8Sums a, RawInt8Sums b) {
#if HWY_TARGET == HWY_AVX2
  return _mm256_maddubs_epi16(a, b);
#else
  return _mm512_maddubs_epi16(a, b);
#endif
}

/// sums + pairs in 16 bits. GCC 12 would add up many pairs at the end, for which it needs more
/// registers than there are; it does not look into inline assembly.
HWY_INLINE RawInt8Sums AddPairs(RawInt8Sums sums, RawInt8Sums pairs) {
#if HWY_TARGET == HWY_AVX2
  __asm__("vpaddw %1, %0, %0" : "+x"(sums) : "x"(pairs));
#else
  __asm__("vpaddw %1, %0, %0" : "+v"(sums) : "v"(pairs));
#endif
  return sums;
}

/// The same in 32 bits.
HWY_INLINE RawInt8Sums AddSums(RawInt8Sums sums, RawInt8Sums pairs) {
#if HWY_TARGET == HWY_AVX2
  __asm__("vpaddd %1, %0, %0" : "+x"(sums) : "x"(pairs));
#else
  __asm__("vpaddd %1, %0, %0" : "+v"(sums) : "v"(pairs));
#endif
  return sums;
}

/// Sums in 32 bits of two neighbouring numbers of 16 bits.
HWY_INLINE RawInt8Sums SumPairs(RawInt8Sums pairs) {
#if HWY_TARGET == HWY_AVX2
  return _mm256_madd_epi16(pairs, _mm256_set1_epi16(1));
#else
  return _mm512_madd_epi16(pairs, _mm512_set1_epi16(1));
#endif
}

/// `AddInt8Dot` without VNNI: two products must fit 16 bits together.
HWY_INLINE RawInt8Sums AddDotByPairs(RawInt8Sums sums, RawInt8Sums a, RawInt8Sums b) {
  return hn::Add(Int8Sums{sums}, Int8Sums{SumPairs(MultiplyPairs(a, b))}).raw;
}

/// a with the signs of b; no byte of a is -128. Where b is 0 the result is anything.
HWY_INLINE RawInt8Sums SignedBy(RawInt8Sums a, RawInt8Sums b) {
#if HWY_TARGET == HWY_AVX2
  return _mm256_sign_epi8(a, b);
#else
  return _mm512_mask_sub_epi8(a, _mm512_movepi8_mask(b), _mm512_setzero_si512(), a);
#endif
}

/// The side of a product whose quants are offset.
enum class OffsetSide { kA, kB };

/// Factors of C = A * B^T in 8 bits, where a number is its quant times a scale: A [rows, 4 fours],
/// B [fours][columns][4], with four neighbours of a column stored together.
struct Int8Factors {
  size_t fours;  ///< Length of the summed dimension, divided by 4.
  const uint8_t* a;
  size_t a_stride;        ///< Bytes from row to row.
  const float* a_scales;  ///< One per row, `scale_stride` apart.
  const int32_t*
      a_sums;  ///< Likewise, if B is offset: sums of the row's quants times -kByteOffset.
  size_t scale_stride;
  const uint8_t* b;
  size_t b_stride;        ///< Bytes from four to four.
  const float* b_scales;  ///< One for each column.
};

/// Vectors of columns of a tile. Products of pairs need registers for the magnitudes of columns.
template <bool kDot>
inline constexpr size_t kInt8TileVectors = kDot ? kTileVectors : kTileVectors / 2;

/// Sums of products of kRows rows with kVectors vectors of columns, in registers; kDot: by
/// VPDPBUSD. Without it quants are at most 127 and none is -128; if B is offset, its signs are
/// moved to A.
template <OffsetSide kOffset, bool kDot, size_t kRows, size_t kVectors>
HWY_INLINE void Int8TileSums(const Int8Factors& f, size_t column,
                             RawInt8Sums (&sum)[kRows][kVectors]) {
  const Int8SumTag di;
  const hn::Repartition<int8_t, Int8SumTag> d8;
  constexpr size_t kLanes = hn::MaxLanes(Int8SumTag());
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) {
      sum[i][j] = kDot && kOffset == OffsetSide::kB ? hn::Set(di, f.a_sums[i * f.scale_stride]).raw
                                                    : hn::Zero(di).raw;
    }
  }
  const uint8_t* HWY_RESTRICT a = f.a;
  const uint8_t* HWY_RESTRICT b = f.b + column * 4;
  for (size_t k = 0; k < f.fours; ++k, a += 4, b += f.b_stride) {
    RawInt8Sums columns[kVectors];
    [[maybe_unused]] RawInt8Sums magnitudes[kVectors];
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) {
      auto bytes = hn::LoadU(d8, reinterpret_cast<const int8_t*>(b + j * kLanes * 4));
      if constexpr (!kDot && kOffset == OffsetSide::kB) {
        bytes = hn::Xor(bytes, hn::Set(d8, static_cast<int8_t>(kByteOffset)));
        magnitudes[j] = hn::Abs(bytes).raw;
      }
      columns[j] = bytes.raw;
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < kRows; ++i) {
      int32_t four;
      std::memcpy(&four, a + i * f.a_stride, sizeof(four));
      const RawInt8Sums row = hn::Set(di, four).raw;
#pragma GCC unroll 8
      for (size_t j = 0; j < kVectors; ++j) {
        if constexpr (kDot) {
          sum[i][j] = kOffset == OffsetSide::kA ? AddInt8Dot(sum[i][j], row, columns[j])
                                                : AddInt8Dot(sum[i][j], columns[j], row);
        } else if constexpr (kOffset == OffsetSide::kA) {
          sum[i][j] = AddDotByPairs(sum[i][j], row, columns[j]);
        } else {
          sum[i][j] = AddDotByPairs(sum[i][j], magnitudes[j], SignedBy(row, columns[j]));
        }
      }
    }
  }
}

/// kRows x kVectors vectors of C = A * B (+ C), sums in registers.
template <OffsetSide kOffset, bool kDot, bool kAccumulate, size_t kRows, size_t kVectors>
HWY_INLINE void Int8TileProduct(const Int8Factors& f, size_t column, float* HWY_RESTRICT c,
                                size_t c_stride) {
  const hn::RebindToFloat<Int8SumTag> d;
  constexpr size_t kLanes = hn::MaxLanes(Int8SumTag());
  RawInt8Sums sum[kRows][kVectors];
  Int8TileSums<kOffset, kDot>(f, column, sum);
  hn::Vec<decltype(d)> b_scales[kVectors];
#pragma GCC unroll 8
  for (size_t j = 0; j < kVectors; ++j)
    b_scales[j] = hn::LoadU(d, f.b_scales + column + j * kLanes);
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
    const auto a_scale = hn::Set(d, f.a_scales[i * f.scale_stride]);
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) {
      float* to = c + i * c_stride + j * kLanes;
      const auto product = hn::ConvertTo(d, Int8Sums{sum[i][j]});
      const auto scale = hn::Mul(a_scale, b_scales[j]);
      hn::StoreU(
          kAccumulate ? hn::MulAdd(product, scale, hn::LoadU(d, to)) : hn::Mul(product, scale), d,
          to);
    }
  }
}

/// squares[column] += sum over kRows rows of (A * B - point[row])^2, without storing A * B; B is
/// offset.
template <bool kDot, size_t kRows, size_t kVectors>
HWY_INLINE void AddInt8TileSquares(const Int8Factors& f, size_t column,
                                   const float* HWY_RESTRICT point, float* HWY_RESTRICT squares) {
  const hn::RebindToFloat<Int8SumTag> d;
  constexpr size_t kLanes = hn::MaxLanes(Int8SumTag());
  RawInt8Sums sum[kRows][kVectors];
  Int8TileSums<OffsetSide::kB, kDot>(f, column, sum);
  hn::Vec<decltype(d)> b_scales[kVectors];
  hn::Vec<decltype(d)> square[kVectors];
#pragma GCC unroll 8
  for (size_t j = 0; j < kVectors; ++j) {
    b_scales[j] = hn::LoadU(d, f.b_scales + column + j * kLanes);
    square[j] = hn::LoadU(d, squares + column + j * kLanes);
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
    const auto a_scale = hn::Set(d, f.a_scales[i * f.scale_stride]);
    const auto coordinate = hn::Set(d, point[i]);
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) {
      const auto product = hn::ConvertTo(d, Int8Sums{sum[i][j]});
      const auto difference = hn::MulSub(product, hn::Mul(a_scale, b_scales[j]), coordinate);
      square[j] = hn::MulAdd(difference, difference, square[j]);
    }
  }
#pragma GCC unroll 8
  for (size_t j = 0; j < kVectors; ++j) {
    hn::StoreU(square[j], d, squares + column + j * kLanes);
  }
}

/// kRows rows of C = A * B (+ C); `columns` is a multiple of the vector length.
template <OffsetSide kOffset, bool kDot, bool kAccumulate, size_t kRows>
inline HWY_NOINLINE void Int8StripProduct(const Int8Factors& f, size_t columns,
                                          float* HWY_RESTRICT c, size_t c_stride) {
  constexpr size_t kLanes = hn::MaxLanes(Int8SumTag());
  constexpr size_t kVectors = kInt8TileVectors<kDot>;
  size_t j = 0;
  for (; j + kVectors * kLanes <= columns; j += kVectors * kLanes) {
    Int8TileProduct<kOffset, kDot, kAccumulate, kRows, kVectors>(f, j, c + j, c_stride);
  }
  if constexpr (kVectors > 1) {
    for (; j < columns; j += kLanes) {
      Int8TileProduct<kOffset, kDot, kAccumulate, kRows, 1>(f, j, c + j, c_stride);
    }
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#else
#define RESTKV_INT8_DOT 0
#endif

#endif
