// Operands of prompt attention: packed queries, a tile of keys and a tile of values, in float32,
// bfloat16 or 8 bits. Included once per SIMD target (see hwy/foreach_target.h).

#if defined(RESTKV_ATTENTION_PREFILL_OPERANDS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESTKV_ATTENTION_PREFILL_OPERANDS_INL_H_
#undef RESTKV_ATTENTION_PREFILL_OPERANDS_INL_H_
#else
#define RESTKV_ATTENTION_PREFILL_OPERANDS_INL_H_
#endif

#include <algorithm>
#include <cstddef>

#include "base/bf16-inl.h"
#include "base/gemm-inl.h"
#include "base/int8_dot-inl.h"
#include "base/int8_dot.h"
#include "base/math-inl.h"
#include "hwy/highway.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Logit of a masked key: finite, so that differences never become NaN.
constexpr float kHiddenLogit = -1.0e30F;

/// The largest logit (in units of log2) among the `visible` keys of a row of a tile, and the sum of
/// 2^(logit - largest).
template <int kExpDegree>
HWY_INLINE void TopAndSum(const float* HWY_RESTRICT logits, size_t visible, float& top,
                          float& sum) {
  const hn::CappedTag<float, 16> d;
  constexpr size_t kLanes = hn::MaxLanes(hn::CappedTag<float, 16>());
  constexpr size_t kVectors = kTilePositions / kLanes;
  hn::Vec<decltype(d)> x[kVectors];
  for (size_t j = 0; j < kVectors; ++j) x[j] = hn::Load(d, logits + j * kLanes);
  if (HWY_UNLIKELY(visible < kTilePositions)) {
    const auto end = hn::Set(d, static_cast<float>(visible));
    for (size_t j = 0; j < kVectors; ++j) {
      const auto index = hn::Iota(d, static_cast<float>(j * kLanes));
      x[j] = hn::IfThenElse(hn::Lt(index, end), x[j], hn::Set(d, kHiddenLogit));
    }
  }
  auto largest = x[0];
  for (size_t j = 1; j < kVectors; ++j) largest = hn::Max(largest, x[j]);
  largest = hn::MaxOfLanes(d, largest);
  auto total = hn::Zero(d);
  for (const auto& logit : x) {
    total = hn::Add(total, Exp2<kExpDegree>(d, hn::Sub(logit, largest)));
  }
  top = hn::GetLane(largest);
  sum = hn::GetLane(hn::SumOfLanes(d, total));
}

/// Operands in float32, for every processor. Operands with rounding also take the number of
/// channels per scale in `ResizeQueries` and `ResizeKeys`.
class F32Operands {
 public:
  /// Degree of the polynomial with which weights are computed.
  static constexpr int kExpDegree = 5;

  /// Makes room for `rows` queries and key tiles of kTilePositions rows. `padded_value_dim` is a
  /// multiple of the vector length.
  HWY_INLINE void Resize(size_t rows, size_t dim, size_t value_dim, size_t padded_value_dim) {
    ResizeQueries(rows, dim);
    ResizeKeys(dim);
    value_dim_ = value_dim;
    padded_value_dim_ = padded_value_dim;
    values_.resize(kTilePositions * padded_value_dim);
  }
  HWY_INLINE void ResizeQueries(size_t rows, size_t dim, size_t = 0) {
    dim_ = dim;
    queries_.resize(rows * dim);
  }
  HWY_INLINE void ResizeKeys(size_t dim, size_t = 0) {
    dim_ = dim;
    keys_.resize(dim * kTilePositions);
  }
  HWY_INLINE void SetQuery(size_t row, const float* query, float scale) {
    float* to = queries_.data() + row * dim_;
    for (size_t c = 0; c < dim_; ++c) to[c] = query[c] * scale;
  }
  HWY_INLINE void ClearQueries(size_t begin, size_t end) {
    std::fill(queries_.data() + begin * dim_, queries_.data() + end * dim_, 0.0F);
  }
  HWY_INLINE void SetKeys(const float* keys, size_t count, size_t stride) {
    TransposePadded(keys, count, dim_, stride, keys_.data(), kTilePositions, kTilePositions);
  }
  /// Values are used in place unless their rows must be padded to whole vectors.
  HWY_INLINE void SetValues(const float* values, size_t count, size_t stride) {
    tile_values_ = values;
    value_stride_ = stride;
    if (padded_value_dim_ == value_dim_) return;
    for (size_t k = 0; k < count; ++k) {
      float* row = values_.data() + k * padded_value_dim_;
      std::copy_n(values + k * stride, value_dim_, row);
      std::fill(row + value_dim_, row + padded_value_dim_, 0.0F);
    }
    tile_values_ = values_.data();
    value_stride_ = padded_value_dim_;
  }
  /// logits [kTileRows, kTilePositions] of the queries of `other` (may be this) from `row` on;
  /// kAccumulate adds to them. Channels of these queries before `first`, a multiple of 4, are 0.
  template <bool kAccumulate>
  HWY_INLINE void Logits(const F32Operands& other, size_t row, float* HWY_RESTRICT logits,
                         size_t first = 0) const {
    const hn::CappedTag<float, 16> d;
    StripProduct<kTileRows, kAccumulate>(
        d, kTilePositions, dim_ - first, other.queries_.data() + row * dim_ + first, dim_,
        keys_.data() + first * kTilePositions, kTilePositions, logits, kTilePositions);
  }
  /// out [kTileRows, padded_value_dim] += weights [kTileRows, kTilePositions] times the first
  /// `depth` values.
  HWY_INLINE void AddValues(const float* HWY_RESTRICT weights, size_t depth,
                            float* HWY_RESTRICT out) {
    const hn::CappedTag<float, 16> d;
    StripProduct<kTileRows, true>(d, padded_value_dim_, depth, weights, kTilePositions,
                                  tile_values_, value_stride_, out, padded_value_dim_);
  }

 private:
  size_t dim_ = 0, value_dim_ = 0, padded_value_dim_ = 0;
  AlignedVector<float> queries_;  // [rows, dim]
  AlignedVector<float> keys_;     // [dim, kTilePositions]
  AlignedVector<float> values_;   // [kTilePositions, padded_value_dim], if values are padded
  const float* tile_values_ = nullptr;
  size_t value_stride_ = 0;
};

#if RESTKV_BF16_PRODUCTS
/// The same in bfloat16 with sums in float32.
class Bf16Operands {
 public:
  /// Weights are rounded to 8 bits: an error of 1e-4 before that does not matter.
  static constexpr int kExpDegree = 3;

  HWY_INLINE void Resize(size_t rows, size_t dim, size_t value_dim, size_t padded_value_dim) {
    ResizeQueries(rows, dim);
    ResizeKeys(dim);
    value_dim_ = value_dim;
    padded_value_dim_ = padded_value_dim;
    values_.resize(kTilePositions / 2 * padded_value_dim);
    weights_.resize(kTileRows * kTilePositions / 2);
  }
  HWY_INLINE void ResizeQueries(size_t rows, size_t dim, size_t = 0) {
    dim_ = dim;
    pairs_ = (dim + 1) / 2;
    queries_.resize(rows * pairs_);
  }
  HWY_INLINE void ResizeKeys(size_t dim, size_t = 0) {
    dim_ = dim;
    pairs_ = (dim + 1) / 2;
    keys_.resize(pairs_ * kTilePositions);
  }
  HWY_INLINE void SetQuery(size_t row, const float* query, float scale) {
    PackBf16Row(query, dim_, scale, queries_.data() + row * pairs_, pairs_);
  }
  HWY_INLINE void ClearQueries(size_t begin, size_t end) {
    std::fill(queries_.data() + begin * pairs_, queries_.data() + end * pairs_, Bf16Pair{0});
  }
  HWY_INLINE void SetKeys(const float* keys, size_t count, size_t stride) {
    PackBf16Transposed(keys, count, dim_, stride, keys_.data(), kTilePositions);
  }
  HWY_INLINE void SetValues(const float* values, size_t count, size_t stride) {
    PackBf16Columns(values, count, value_dim_, stride, values_.data(), padded_value_dim_);
  }
  template <bool kAccumulate>
  HWY_INLINE void Logits(const Bf16Operands& other, size_t row, float* HWY_RESTRICT logits,
                         size_t first = 0) const {
    const size_t skipped = first / 2;
    Bf16StripProduct<kAccumulate>(
        kTilePositions, pairs_ - skipped, other.queries_.data() + row * pairs_ + skipped, pairs_,
        keys_.data() + skipped * kTilePositions, kTilePositions, logits, kTilePositions);
  }
  /// Weights beyond `depth` must be 0, since values are multiplied in pairs.
  HWY_INLINE void AddValues(const float* HWY_RESTRICT weights, size_t depth,
                            float* HWY_RESTRICT out) {
    PackBf16Row(weights, kTileRows * kTilePositions, 1.0F, weights_.data(), weights_.size());
    Bf16StripProduct<true>(padded_value_dim_, (depth + 1) / 2, weights_.data(), kTilePositions / 2,
                           values_.data(), padded_value_dim_, out, padded_value_dim_);
  }

 private:
  size_t dim_ = 0, pairs_ = 0, value_dim_ = 0, padded_value_dim_ = 0;
  AlignedVector<Bf16Pair> queries_;  // [rows, pairs of channels]
  AlignedVector<Bf16Pair> keys_;     // [pairs of channels, kTilePositions]
  AlignedVector<Bf16Pair> values_;   // [pairs of positions, padded_value_dim]
  AlignedVector<Bf16Pair> weights_;  // [kTileRows, pairs of positions]
};
#endif

#if RESTKV_INT8_DOT
/// The same in 8 bits with exact sums of products; kDot: by VPDPBUSD, otherwise by pairs of bytes.
/// There is one scale for each kGroup channels of a query or key, each channel of a tile's values,
/// and each row of weights of a tile.
template <bool kDot>
class Int8Operands {
 public:
  /// Weights are rounded to 8 bits.
  static constexpr int kExpDegree = 3;

  HWY_INLINE void Resize(size_t rows, size_t dim, size_t value_dim, size_t padded_value_dim) {
    ResizeQueries(rows, dim);
    ResizeKeys(dim);
    value_dim_ = value_dim;
    padded_value_dim_ = padded_value_dim;
    values_.resize(kTilePositions * padded_value_dim);
    value_scales_.resize(padded_value_dim);
  }
  /// `group` channels of a query or key share a scale; more of them would be less accurate.
  HWY_INLINE void ResizeQueries(size_t rows, size_t dim, size_t group = kGroup) {
    SetDim(dim, group);
    queries_.resize(rows * bytes_);
    query_scales_.resize(rows * groups_);
    query_sums_.resize(rows * groups_);
  }
  HWY_INLINE void ResizeKeys(size_t dim, size_t group = kGroup) {
    SetDim(dim, group);
    key_quants_.resize(kTilePositions * bytes_);
    keys_.resize(kTilePositions * bytes_);
    key_scales_.resize(kTilePositions * groups_);
  }
  HWY_INLINE void SetQuery(size_t row, const float* query, float scale) {
    int8_t* quants = queries_.data() + row * bytes_;
    std::fill(quants + dim_, quants + bytes_, int8_t{0});
    for (size_t g = 0; g < groups_; ++g) {
      const size_t at = row * groups_ + g;
      query_scales_[at] = scale * RoundToInt8(query + g * group_, GroupSize(g), quants + g * group_,
                                              &query_sums_[at]);
    }
  }
  HWY_INLINE void ClearQueries(size_t begin, size_t end) {
    std::fill(queries_.data() + begin * bytes_, queries_.data() + end * bytes_, int8_t{0});
    std::fill(query_scales_.data() + begin * groups_, query_scales_.data() + end * groups_, 0.0F);
    std::fill(query_sums_.data() + begin * groups_, query_sums_.data() + end * groups_, 0);
  }
  HWY_INLINE void SetKeys(const float* keys, size_t count, size_t stride) {
    size_t k = 0;
    for (; k + 4 <= count && group_ % 64 == 0 && dim_ % group_ == 0; k += 4) {
      for (size_t g = 0; g < groups_; ++g) {
        RoundFourToInt8(keys + k * stride + g * group_, stride, group_,
                        key_quants_.data() + k * bytes_ + g * group_, bytes_,
                        &key_scales_[g * kTilePositions + k]);
      }
    }
    for (; k < count; ++k) {
      int8_t* quants = key_quants_.data() + k * bytes_;
      std::fill(quants + dim_, quants + bytes_, int8_t{0});
      for (size_t g = 0; g < groups_; ++g) {
        key_scales_[g * kTilePositions + k] =
            RoundToInt8(keys + k * stride + g * group_, GroupSize(g), quants + g * group_);
      }
    }
    std::fill(key_quants_.data() + count * bytes_, key_quants_.data() + kTilePositions * bytes_,
              int8_t{0});
    for (size_t g = 0; g < groups_; ++g) {
      float* scales = key_scales_.data() + g * kTilePositions;
      std::fill(scales + count, scales + kTilePositions, 0.0F);
    }
    PackOffsetBytes<kTilePositions>(key_quants_.data(), bytes_, keys_.data());
  }
  HWY_INLINE void SetValues(const float* values, size_t count, size_t stride) {
    const hn::ScalableTag<float> d;
    size_t c = 0;
    for (; c + hn::Lanes(d) <= value_dim_; c += hn::Lanes(d)) {
      SetChannels(d, values + c, count, stride, c);
    }
    for (; c < value_dim_; ++c)
      SetChannels(hn::CappedTag<float, 1>(), values + c, count, stride, c);
    std::fill(value_scales_.data() + c, value_scales_.data() + padded_value_dim_, 0.0F);
  }
  template <bool kAccumulate>
  HWY_INLINE void Logits(const Int8Operands& other, size_t row, float* HWY_RESTRICT logits,
                         size_t first = 0) const {
    // Skips groups of channels that are all 0 in the queries, and fours of the next group.
    for (size_t g = first / group_, begin = first; g < groups_; begin = ++g * group_) {
      const Int8Factors f = Factors(other, row, g, begin);
      if (kAccumulate || begin != first) {
        Int8StripProduct<OffsetSide::kB, kDot, true, kTileRows>(f, kTilePositions, logits,
                                                                kTilePositions);
      } else {
        Int8StripProduct<OffsetSide::kB, kDot, false, kTileRows>(f, kTilePositions, logits,
                                                                 kTilePositions);
      }
    }
  }
  /// squares[p] += ||logits[..][p] - point||^2 for the logits of queries `row` to `row + kTileRows`
  /// with all keys; keys must have one group of channels.
  HWY_INLINE void AddSquaredDistances(const Int8Operands& other, size_t row, size_t first,
                                      const float* HWY_RESTRICT point,
                                      float* HWY_RESTRICT squares) const {
    const Int8Factors f = Factors(other, row, 0, first);
    constexpr size_t kVectors = kInt8TileVectors<kDot>;
    constexpr size_t kWidth = kVectors * hn::MaxLanes(Int8SumTag());
    static_assert(kTilePositions % kWidth == 0);
    for (size_t p = 0; p < kTilePositions; p += kWidth) {
      AddInt8TileSquares<kDot, kTileRows, kVectors>(f, p, point, squares);
    }
  }
  /// Weights beyond `depth` must be 0, since values are multiplied in fours.
  HWY_INLINE void AddValues(const float* HWY_RESTRICT weights, size_t depth,
                            float* HWY_RESTRICT out) {
    HWY_ALIGN uint8_t quants[kTileRows * kTilePositions];
    float scales[kTileRows];
    RoundWeights(weights, quants, scales);
    const Int8Factors f{.fours = (depth + 3) / 4,
                        .a = quants,
                        .a_stride = kTilePositions,
                        .a_scales = scales,
                        .a_sums = nullptr,
                        .scale_stride = 1,
                        .b = values_.data(),
                        .b_stride = padded_value_dim_ * 4,
                        .b_scales = value_scales_.data()};
    Int8StripProduct<OffsetSide::kA, kDot, true, kTileRows>(f, padded_value_dim_, out,
                                                            padded_value_dim_);
  }

 private:
  static constexpr size_t kGroup = 64;

  HWY_INLINE void SetDim(size_t dim, size_t group) {
    dim_ = dim;
    bytes_ = hwy::RoundUpTo(dim, 4);
    group_ = group;
    groups_ = hwy::DivCeil(dim, group);
  }
  [[nodiscard]] HWY_INLINE size_t GroupSize(size_t g) const {
    return HWY_MIN(group_, dim_ - g * group_);
  }
  /// Factors for the channels of group g from `begin` on: kTileRows queries of `other`, all keys.
  [[nodiscard]] HWY_INLINE Int8Factors Factors(const Int8Operands& other, size_t row, size_t g,
                                               size_t begin) const {
    const int8_t* queries = other.queries_.data() + row * bytes_ + begin;
    const size_t end = HWY_MIN((g + 1) * group_, bytes_);
    return {.fours = (end - begin) / 4,
            .a = reinterpret_cast<const uint8_t*>(queries),
            .a_stride = bytes_,
            .a_scales = other.query_scales_.data() + row * groups_ + g,
            .a_sums = other.query_sums_.data() + row * groups_ + g,
            .scale_stride = groups_,
            .b = keys_.data() + begin * kTilePositions,
            .b_stride = kTilePositions * 4,
            .b_scales = key_scales_.data() + g * kTilePositions};
  }
  /// Rounds a vector of channels of a tile's values, from channel `c` on.
  template <class D>
  HWY_INLINE void SetChannels(D d, const float* HWY_RESTRICT values, size_t count, size_t stride,
                              size_t c) {
    const hn::RebindToSigned<D> di;
    auto top = hn::Zero(d);
    for (size_t k = 0; k < count; ++k)
      top = hn::Max(top, hn::Abs(hn::LoadU(d, values + k * stride)));
    hn::StoreU(hn::Mul(top, hn::Set(d, 1.0F / 127)), d, value_scales_.data() + c);
    const auto inverse =
        hn::IfThenElseZero(hn::Gt(top, hn::Zero(d)), hn::Div(hn::Set(d, 127.0F), top));
    for (size_t k = 0; k < kTilePositions; k += 4) {
      auto four = hn::Zero(di);
      for (size_t i = 0; i < HWY_MIN(size_t{4}, count - HWY_MIN(count, k)); ++i) {
        const auto quant = NearestProduct(d, hn::LoadU(d, values + (k + i) * stride), inverse);
        four = hn::Or(four,
                      hn::ShiftLeftSame(hn::And(quant, hn::Set(di, 255)), static_cast<int>(8 * i)));
      }
      hn::StoreU(four, di,
                 reinterpret_cast<int32_t*>(values_.data() + k * padded_value_dim_ + c * 4));
    }
  }
  /// Rounds non-negative weights [kTileRows, kTilePositions] with one scale per row.
  static HWY_INLINE void RoundWeights(const float* HWY_RESTRICT weights,
                                      uint8_t* HWY_RESTRICT quants, float* HWY_RESTRICT scales) {
    const hn::ScalableTag<float> d;
    const Int8SumTag di;
    const hn::Full128<float> d4;
    constexpr size_t kLanes = hn::MaxLanes(Int8SumTag());
    constexpr float kLargest = kDot ? 255.0F : 127.0F;  // so that sums of pairs fit 16 bits
    float inverses[kTileRows];
    static_assert(kTileRows >= 4 && kTileRows <= 8);  // two fours, which may overlap
    for (const size_t first : {size_t{0}, kTileRows - 4}) {
      Int8Sums tops[4];
      for (size_t r = 0; r < 4; ++r) {
        const float* row = weights + (first + r) * kTilePositions;
        auto top = hn::Load(d, row);
        for (size_t j = kLanes; j < kTilePositions; j += kLanes) {
          top = hn::Max(top, hn::Load(d, row + j));
        }
        tops[r] = hn::BitCast(di, top);  // ordered like the non-negative numbers
      }
      const auto top =
          hn::BitCast(d4, ReduceFour(tops, [](auto a, auto b) HWY_ATTR { return hn::Max(a, b); }));
      const auto inverse =
          hn::IfThenElseZero(hn::Gt(top, hn::Zero(d4)), hn::Div(hn::Set(d4, kLargest), top));
      hn::StoreU(inverse, d4, inverses + first);
      hn::StoreU(hn::Mul(top, hn::Set(d4, 1.0F / kLargest)), d4, scales + first);
    }
    for (size_t r = 0; r < kTileRows; ++r) {
      const auto inverse = hn::Set(d, inverses[r]);
      for (size_t j = 0; j < kTilePositions; j += 4 * kLanes) {
        Int8Sums quant[4];
        for (size_t i = 0; i < 4; ++i) {
          const float* weight = weights + r * kTilePositions + j + i * kLanes;
          quant[i] = NearestProduct(d, hn::Load(d, weight), inverse);
        }
        hn::Store(DemoteFour<false>(quant), di,
                  reinterpret_cast<int32_t*>(quants + r * kTilePositions + j));
      }
    }
  }

  size_t dim_ = 0, bytes_ = 0, group_ = kGroup, groups_ = 0;
  size_t value_dim_ = 0, padded_value_dim_ = 0;
  AlignedVector<int8_t> queries_;      // [rows, bytes]
  AlignedVector<float> query_scales_;  // [rows, groups]
  AlignedVector<int32_t> query_sums_;
  AlignedVector<int8_t> key_quants_;  // [kTilePositions, bytes]
  AlignedVector<uint8_t> keys_;       // [bytes / 4][kTilePositions][4], offset
  AlignedVector<uint8_t> values_;     // [kTilePositions / 4][padded_value_dim][4]
  AlignedVector<float> value_scales_;
  AlignedVector<float> key_scales_;  // [groups, kTilePositions]
};
#endif

/// Calls `run` with a null pointer to the operands type of a precision; the precision must be
/// supported.
template <class Run>
HWY_INLINE void WithOperands(AttentionPrecision precision, const Run& run) {
#if RESTKV_BF16_PRODUCTS
  if (precision == AttentionPrecision::kBf16) return run(static_cast<Bf16Operands*>(nullptr));
#endif
#if RESTKV_INT8_DOT
  if (precision == AttentionPrecision::kInt8) {
    if (has_int8_dot()) return run(static_cast<Int8Operands<true>*>(nullptr));
    return run(static_cast<Int8Operands<false>*>(nullptr));
  }
#endif
  (void)precision;
  run(static_cast<F32Operands*>(nullptr));
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
