// Products of bytes with sums in 32 bits (VPDPBUSD), which Highway 1.0 has no name for. Included
// once per SIMD target; where RESTKV_BYTE_PRODUCTS is 0 there are none.
//
// The instruction multiplies four unsigned bytes with four signed ones and adds all four products
// to a number of 32 bits. Codes of both signs become unsigned by adding kByteOffset, so a sum of
// products is too large by kByteOffset times the sum of the signed side: what a sum must begin
// with.

#if defined(RESTKV_BASE_BYTE_PRODUCTS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESTKV_BASE_BYTE_PRODUCTS_INL_H_
#undef RESTKV_BASE_BYTE_PRODUCTS_INL_H_
#else
#define RESTKV_BASE_BYTE_PRODUCTS_INL_H_
#endif

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/gemm-inl.h"
#include "hwy/highway.h"

#undef RESTKV_BYTE_PRODUCTS
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
#define RESTKV_BYTE_PRODUCTS 1

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

using ByteSumTag = hn::ScalableTag<int32_t>;
using ByteSums = hn::Vec<ByteSumTag>;

inline constexpr int kByteOffset = 128;

/// Rounds x[0..n) to whole numbers of -127 to 127 times a step that fits the largest of
/// them, which is returned: NaN if some number is infinite or NaN, so that products still show it.
/// codes[0..n) are the whole numbers; `sum`, if asked for, is their sum times -kByteOffset.
HWY_INLINE float RoundToBytes(const float* HWY_RESTRICT x, size_t n, int8_t* HWY_RESTRICT codes,
                              int32_t* HWY_RESTRICT sum = nullptr) {
  const hn::ScalableTag<float> d;
  const hn::Rebind<int8_t, decltype(d)> d8;
  const ByteSumTag di;
  constexpr size_t kLanes = hn::MaxLanes(ByteSumTag());
  constexpr float kLargest = 127.0F;
  const size_t whole = n / kLanes * kLanes;
  HWY_ALIGN float rest[kLanes] = {};
  std::copy_n(x + whole, n - whole, rest);
  auto tops = hn::Zero(d);
  auto zeros = hn::Zero(d);  // NaN where x is no number
  const auto look = [&](const float* from) HWY_ATTR {
    const auto v = hn::LoadU(d, from);
    tops = hn::Max(tops, hn::Abs(v));
    zeros = hn::MulAdd(v, hn::Zero(d), zeros);
  };
  for (size_t i = 0; i < whole; i += kLanes) look(x + i);
  if (whole < n) look(rest);
  const float top = hn::GetLane(hn::MaxOfLanes(d, tops));
  const bool finite = hn::AllTrue(d, hn::Eq(zeros, hn::Zero(d)));
  const bool something = finite && top > 0;
  // Of 0 everything becomes 0; what is not finite must not become anything.
  const auto inverse = hn::Set(d, something ? kLargest / top : 0.0F);
  auto total = hn::Zero(di);
  const auto round = [&](const float* from) HWY_ATTR {
    const auto v = finite ? hn::LoadU(d, from) : hn::Zero(d);
    const auto code = hn::NearestInt(hn::Mul(v, inverse));
    total = hn::Add(total, code);
    return hn::DemoteTo(d8, code);
  };
  for (size_t i = 0; i < whole; i += kLanes) hn::StoreU(round(x + i), d8, codes + i);
  if (whole < n) {
    HWY_ALIGN int8_t last[kLanes];
    hn::StoreU(round(rest), d8, last);
    std::copy_n(last, n - whole, codes + whole);
  }
  if (sum != nullptr) *sum = -kByteOffset * hn::GetLane(hn::SumOfLanes(di, total));
  if (!finite) return std::numeric_limits<float>::quiet_NaN();
  return something ? top / kLargest : 0.0F;
}

/// out [bytes / 4][kColumns][4] = codes [kColumns, bytes], offset: what `ByteFactors` calls B.
/// `bytes` is a multiple of 4.
template <size_t kColumns>
HWY_INLINE void PackOffsetBytes(const int8_t* HWY_RESTRICT codes, size_t bytes,
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
        const int8_t* from = codes + (r + i) * bytes + k;
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
      std::memcpy(&four, codes + r * bytes + k, sizeof(four));
      four ^= 0x80808080U;
      std::memcpy(out + k * kColumns + r * 4, &four, sizeof(four));
    }
  }
}

/// Compilers keep arrays of these in registers, those of Highway's vectors they do not always.
using RawByteSums = decltype(ByteSums::raw);

/// sums[i] += unsigned bytes 4 i to 4 i + 3 of a, times the signed ones of b. The instruction
/// writes over its first operand; told so in this way, GCC 12 leaves a tile's sums where they are,
/// instead of copying them to and fro, which takes half of the time.
HWY_INLINE RawByteSums AddByteProducts(RawByteSums sums, RawByteSums a, RawByteSums b) {
#if HWY_TARGET == HWY_AVX2
  __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sums) : "x"(a), "x"(b));
#else
  __asm__("vpdpbusd %2, %1, %0" : "+v"(sums) : "v"(a), "v"(b));
#endif
  return sums;
}

/// Which side of a product has its codes offset.
enum class OffsetSide { kA, kB };

/// Factors of C = A * B^T in 8 bits, a number being its code times a step: A [rows, 4 fours], B
/// [fours][columns][4], which is four neighbours of one column after those of the one before.
struct ByteFactors {
  size_t fours;  ///< Products that are summed over, in fours.
  const uint8_t* a;
  size_t a_stride;        ///< Bytes from row to row.
  const float* a_steps;   ///< One for each row, every `steps_stride`.
  const int32_t* a_sums;  ///< Likewise, if B is offset: sums of the row's codes times -kByteOffset.
  size_t steps_stride;
  const uint8_t* b;
  size_t b_stride;       ///< Bytes from four to four.
  const float* b_steps;  ///< One for each column.
};

/// kRows x kVectors vectors of C = A * B (+ C), sums in registers.
template <OffsetSide kOffset, bool kAccumulate, size_t kRows, size_t kVectors>
HWY_INLINE void ByteTileProduct(const ByteFactors& f, size_t column, float* HWY_RESTRICT c,
                                size_t c_stride) {
  const ByteSumTag di;
  const hn::RebindToFloat<ByteSumTag> d;
  constexpr size_t kLanes = hn::MaxLanes(ByteSumTag());
  RawByteSums sum[kRows][kVectors];
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) {
      sum[i][j] = kOffset == OffsetSide::kB ? hn::Set(di, f.a_sums[i * f.steps_stride]).raw
                                            : hn::Zero(di).raw;
    }
  }
  const uint8_t* HWY_RESTRICT a = f.a;
  const uint8_t* HWY_RESTRICT b = f.b + column * 4;
  for (size_t k = 0; k < f.fours; ++k, a += 4, b += f.b_stride) {
    RawByteSums columns[kVectors];
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) {
      columns[j] = hn::LoadU(di, reinterpret_cast<const int32_t*>(b + j * kLanes * 4)).raw;
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < kRows; ++i) {
      int32_t four;
      std::memcpy(&four, a + i * f.a_stride, sizeof(four));
      const RawByteSums row = hn::Set(di, four).raw;
#pragma GCC unroll 8
      for (size_t j = 0; j < kVectors; ++j) {
        sum[i][j] = kOffset == OffsetSide::kA ? AddByteProducts(sum[i][j], row, columns[j])
                                              : AddByteProducts(sum[i][j], columns[j], row);
      }
    }
  }
  hn::Vec<decltype(d)> b_steps[kVectors];
#pragma GCC unroll 8
  for (size_t j = 0; j < kVectors; ++j) b_steps[j] = hn::LoadU(d, f.b_steps + column + j * kLanes);
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
    const auto a_step = hn::Set(d, f.a_steps[i * f.steps_stride]);
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) {
      float* to = c + i * c_stride + j * kLanes;
      const auto product = hn::ConvertTo(d, ByteSums{sum[i][j]});
      const auto step = hn::Mul(a_step, b_steps[j]);
      hn::StoreU(kAccumulate ? hn::MulAdd(product, step, hn::LoadU(d, to)) : hn::Mul(product, step),
                 d, to);
    }
  }
}

/// kRows rows of C = A * B (+ C); `columns` is a multiple of the vector length.
template <OffsetSide kOffset, bool kAccumulate, size_t kRows>
inline HWY_NOINLINE void ByteStripProduct(const ByteFactors& f, size_t columns,
                                          float* HWY_RESTRICT c, size_t c_stride) {
  constexpr size_t kLanes = hn::MaxLanes(ByteSumTag());
  size_t j = 0;
  for (; j + kTileVectors * kLanes <= columns; j += kTileVectors * kLanes) {
    ByteTileProduct<kOffset, kAccumulate, kRows, kTileVectors>(f, j, c + j, c_stride);
  }
  for (; j < columns; j += kLanes) {
    ByteTileProduct<kOffset, kAccumulate, kRows, 1>(f, j, c + j, c_stride);
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#else
#define RESTKV_BYTE_PRODUCTS 0
#endif

#endif
