// Dot products of a block of packed weights with blocks of rows of x: exact sums in 32 bits, by
// VPDPBUSD or, on processors without it, by VPMADDUBSW. Included once per SIMD target; empty where
// RESTKV_INT8_DOT is 0.

#if defined(RESTKV_LINEAR_PACKED_SUMS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESTKV_LINEAR_PACKED_SUMS_INL_H_
#undef RESTKV_LINEAR_PACKED_SUMS_INL_H_
#else
#define RESTKV_LINEAR_PACKED_SUMS_INL_H_
#endif

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

#include "base/int8_dot-inl.h"
#include "hwy/highway.h"
#include "linear/packed_format.h"
#include "linear/quantized_rows.h"

#if RESTKV_INT8_DOT
HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

constexpr size_t kPanelVectors = PackedFormat::kRows / hn::MaxLanes(Int8SumTag());

/// Four bytes of x, broadcast to all lanes.
HWY_INLINE RawInt8Sums FourOfRow(const int8_t* x) {
  int32_t four;
  std::memcpy(&four, x, sizeof(four));
  return hn::Set(Int8SumTag(), four).raw;
}

/// The k-th stored four of bytes of the panel's rows in vector j.
HWY_INLINE Int8Sums StoredFour(const uint8_t* HWY_RESTRICT quants, size_t k, size_t j) {
  const Int8SumTag di;
  const uint8_t* at = quants + (k * PackedFormat::kRows + j * hn::Lanes(di)) * 4;
  return hn::Load(di, reinterpret_cast<const int32_t*>(at));
}

/// The lower or the upper halves of bytes.
template <bool kUpper>
HWY_INLINE Int8Sums HalvesOfBytes(Int8Sums bytes) {
  return hn::And(kUpper ? hn::ShiftRight<4>(bytes) : bytes, hn::Set(Int8SumTag(), 0x0F0F0F0F));
}

/// Moves bits from `kFrom` on to `kTo` on.
template <int kFrom, int kTo>
HWY_INLINE Int8Sums MoveBits(Int8Sums v) {
  if constexpr (kFrom <= kTo) {
    return hn::ShiftLeft<kTo - kFrom>(v);
  } else {
    return hn::ShiftRight<kFrom - kTo>(v);
  }
}

/// The k-th four of quants of a block, for formats of 4 to 6 bits.
template <PackedFormat kFormat, size_t k>
HWY_INLINE Int8Sums FourOfQuants(const uint8_t* HWY_RESTRICT quants, size_t j) {
  const Int8SumTag di;
  constexpr bool kSecond = k >= 4;
  constexpr int kPlace = k % 4;
  const auto lower = HalvesOfBytes<kSecond>(StoredFour(quants, kPlace, j));
  if constexpr (kFormat.bits == 5) {
    const auto fifth = MoveBits < kSecond ? 4 + kPlace : kPlace, 4 > (StoredFour(quants, 4, j));
    return hn::Or(lower, hn::And(fifth, hn::Set(di, 0x10101010)));
  } else if constexpr (kFormat.bits == 6) {
    const auto upper = MoveBits<2 * kPlace, 4>(StoredFour(quants, kSecond ? 5 : 4, j));
    return hn::Or(lower, hn::And(upper, hn::Set(di, 0x30303030)));
  } else {
    return lower;
  }
}

/// Where the sum of a block, or with 6 bits of one of its halves, starts: at minus the contribution
/// of the quants' offset. With other bits the second sum adds to the first and starts at 0.
template <PackedFormat kFormat, size_t kHalf>
HWY_INLINE Int8Sums StartOfSum(const QuantizedRows::View& x, size_t row, size_t b) {
  const Int8SumTag di;
  if constexpr (kFormat.offset() == 0 || (kHalf == 1 && kFormat.bits != 6)) {
    return hn::Zero(di);
  } else {
    constexpr int kShare = kByteOffset / kFormat.offset();
    const size_t at = row * x.blocks + b;
    const int32_t whole = x.sums[at];
    if constexpr (kFormat.bits != 6) return hn::Set(di, whole / kShare);
    const int32_t first = x.first_sums[at];
    return hn::Set(di, (kHalf == 0 ? first : whole - first) / kShare);
  }
}

/// Dot products by VPDPBUSD, in two sums. For 4, 5 and 6 bits they belong to the two halves of the
/// block; with 4 bits the second is 16 times too large. For 8 bits they alternate between fours of
/// bytes, because one sum would wait for itself.
template <PackedFormat kFormat, size_t kRows>
class DotSums {
 public:
  /// Rows of x at a time, limited by registers for sums.
#if HWY_TARGET == HWY_AVX2
  static constexpr size_t kTogether = 1;
#else
  static constexpr size_t kTogether = 4;
#endif

  /// Multiplies the b-th blocks of x with a panel's block.
  HWY_INLINE void Multiply(const uint8_t* HWY_RESTRICT quants, const QuantizedRows::View& x,
                           size_t b) {
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) {
      const auto low = StartOfSum<kFormat, 0>(x, i, b);
      const auto high = StartOfSum<kFormat, 1>(x, i, b);
#pragma GCC unroll 2
      for (size_t j = 0; j < kPanelVectors; ++j) {
        low_[i][j] = low.raw;
        high_[i][j] = high.raw;
      }
    }
    AddFrom<0>(quants, x, b);
  }
  /// The sum of row i and vector j of the panel's rows.
  [[nodiscard]] HWY_INLINE Int8Sums Sum(size_t i, size_t j) const {
    return hn::Add(First(i, j), kFormat.bits == 4 ? hn::ShiftRight<4>(Second(i, j)) : Second(i, j));
  }
  /// The sums of the halves of a block, for 6 bits.
  [[nodiscard]] HWY_INLINE Int8Sums First(size_t i, size_t j) const { return {low_[i][j]}; }
  [[nodiscard]] HWY_INLINE Int8Sums Second(size_t i, size_t j) const { return {high_[i][j]}; }

 private:
  template <size_t k>
  HWY_INLINE void AddFrom(const uint8_t* HWY_RESTRICT quants, const QuantizedRows::View& x,
                          size_t b) {
    constexpr size_t kBlock = QuantizedRows::kBlock;
#pragma GCC unroll 2
    for (size_t j = 0; j < kPanelVectors; ++j) {
      if constexpr (kFormat.bits == 8) {
        const auto quant = StoredFour(quants, k, j);
#pragma GCC unroll 4
        for (size_t i = 0; i < kRows; ++i) {
          auto& sum = k % 2 == 0 ? low_[i][j] : high_[i][j];
          sum =
              AddInt8Dot(sum, quant.raw, FourOfRow(x.quants + (i * x.blocks + b) * kBlock + 4 * k));
        }
      } else {
        const auto first = FourOfQuants<kFormat, k>(quants, j);
        const auto second = SecondFour<k>(quants, j);
#pragma GCC unroll 4
        for (size_t i = 0; i < kRows; ++i) {
          const int8_t* four = x.quants + (i * x.blocks + b) * kBlock + 4 * k;
          low_[i][j] = AddInt8Dot(low_[i][j], first.raw, FourOfRow(four));
          high_[i][j] = AddInt8Dot(high_[i][j], second.raw, FourOfRow(four + kBlock / 2));
        }
      }
    }
    if constexpr (k + 1 < (kFormat.bits == 8 ? 8 : 4)) AddFrom<k + 1>(quants, x, b);
  }
  template <size_t k>
  static HWY_INLINE Int8Sums SecondFour(const uint8_t* HWY_RESTRICT quants, size_t j) {
    if constexpr (kFormat.bits == 4) {
      const auto upper_half = hn::Set(Int8SumTag(), static_cast<int32_t>(0xF0F0F0F0U));
      return hn::And(StoredFour(quants, k, j), upper_half);
    } else {
      return FourOfQuants<kFormat, 4 + k>(quants, j);
    }
  }

  RawInt8Sums low_[kRows][kPanelVectors];
  RawInt8Sums high_[kRows][kPanelVectors];
};

/// Dot products by VPMADDUBSW. Products of small quants are added in 16 bits as long as none can
/// exceed them. Quants of 8 bits are multiplied as two halves of 4.
template <PackedFormat kFormat, size_t kRows>
class PairSums {
 public:
  static constexpr size_t kTogether = 4;

  HWY_INLINE void Multiply(const uint8_t* HWY_RESTRICT quants, const QuantizedRows::View& x,
                           size_t b) {
    AddFrom<0>(quants, x, b);
  }
  [[nodiscard]] HWY_INLINE Int8Sums Sum(size_t i, size_t j) const { return First(i, j); }
  [[nodiscard]] HWY_INLINE Int8Sums First(size_t i, size_t j) const { return {sums_[0][i][j]}; }
  [[nodiscard]] HWY_INLINE Int8Sums Second(size_t i, size_t j) const { return {sums_[1][i][j]}; }

 private:
  static constexpr int kLargest = kFormat.bits == 8 ? 15 : (1 << kFormat.bits) - 1;
  /// Fours whose products of pairs can be added in 16 bits.
  static constexpr size_t kAddable = std::numeric_limits<int16_t>::max() / (2 * 127 * kLargest);
  static constexpr size_t kFours = QuantizedRows::kBlock / 4;
  static constexpr size_t kSums = kFormat.bits == 6 ? 2 : 1;
  static constexpr size_t kSteps = kFormat.bits == 8 ? 2 * kFours : kFours;
  static constexpr size_t kStepsOfSum = kSteps / kSums;
  static_assert(kAddable > 0 && kStepsOfSum % kAddable == 0);

  template <size_t kStep>
  HWY_INLINE void AddFrom(const uint8_t* HWY_RESTRICT quants, const QuantizedRows::View& x,
                          size_t b) {
    RawInt8Sums four[kPanelVectors];
#pragma GCC unroll 2
    for (size_t j = 0; j < kPanelVectors; ++j) four[j] = SmallQuants<kStep>(quants, j).raw;
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) {
      const RawInt8Sums row =
          FourOfRow(x.quants + (i * x.blocks + b) * QuantizedRows::kBlock + 4 * FourOfStep(kStep));
#pragma GCC unroll 2
      for (size_t j = 0; j < kPanelVectors; ++j) {
        const RawInt8Sums products = MultiplyPairs(four[j], row);
        pairs_[i][j] = kStep % kAddable == 0 ? products : AddPairs(pairs_[i][j], products);
      }
    }
    if constexpr ((kStep + 1) % kAddable == 0) Widen<kStep>(x, b);
    // GCC would keep all bytes for their upper halves, in more registers than there are.
    if constexpr (kFormat.bits == 8 && kStep + 1 == kFours) __asm__ volatile("" ::: "memory");
    if constexpr (kStep + 1 < kSteps) AddFrom<kStep + 1>(quants, x, b);
  }
  /// Adds the products of pairs up to kStep to a sum.
  template <size_t kStep>
  HWY_INLINE void Widen(const QuantizedRows::View& x, size_t b) {
    constexpr size_t kSum = kStep / kStepsOfSum;
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
      for (size_t j = 0; j < kPanelVectors; ++j) {
        Int8Sums sum{SumPairs(pairs_[i][j])};
        if constexpr (kFormat.bits == 8 && kStep >= kFours) sum = hn::ShiftLeft<4>(sum);
        if constexpr (kStep % kStepsOfSum < kAddable) {
          sums_[kSum][i][j] = hn::Add(StartOfSum<kFormat, kSum>(x, i, b), sum).raw;
        } else {
          sums_[kSum][i][j] = AddSums(sums_[kSum][i][j], sum.raw);
        }
      }
    }
  }
  template <size_t kStep>
  static HWY_INLINE Int8Sums SmallQuants(const uint8_t* HWY_RESTRICT quants, size_t j) {
    if constexpr (kFormat.bits == 8) {
      return HalvesOfBytes<(kStep >= kFours)>(StoredFour(quants, kStep % kFours, j));
    } else {
      return FourOfQuants<kFormat, FourOfStep(kStep)>(quants, j);
    }
  }
  static constexpr size_t FourOfStep(size_t step) {
    return kFormat.bits == 4 || kFormat.bits == 5 ? step / 2 + step % 2 * 4 : step % kFours;
  }

  RawInt8Sums pairs_[kRows][kPanelVectors];
  RawInt8Sums sums_[kSums][kRows][kPanelVectors];
};

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif  // RESTKV_INT8_DOT

#endif
