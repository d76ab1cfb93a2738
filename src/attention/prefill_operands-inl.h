// What prompt attention multiplies: packed queries, a tile of keys and a tile of values, in float32
// or bfloat16. Included once per SIMD target (see hwy/foreach_target.h).

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
#include "hwy/highway.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Operands in float32, for every processor.
class F32Operands {
 public:
  /// Degree of the polynomial with which weights are computed.
  static constexpr int kExpDegree = 5;

  /// Room for so many queries, and key tiles of kTilePositions rows; `padded_value_dim` is a
  /// multiple of the vector length.
  HWY_INLINE void Resize(size_t rows, size_t dim, size_t value_dim, size_t padded_value_dim) {
    ResizeQueries(rows, dim);
    ResizeKeys(dim);
    value_dim_ = value_dim;
    padded_value_dim_ = padded_value_dim;
    values_.resize(kTilePositions * padded_value_dim);
  }
  HWY_INLINE void ResizeQueries(size_t rows, size_t dim) {
    dim_ = dim;
    queries_.resize(rows * dim);
  }
  HWY_INLINE void ResizeKeys(size_t dim) {
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
  /// Values are used where they lie, unless their rows must be padded to whole vectors.
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
  /// logits [kTileRows, kTilePositions] of the queries from `row` on (kAccumulate: added).
  template <bool kAccumulate = false>
  HWY_INLINE void Logits(size_t row, float* HWY_RESTRICT logits) const {
    Logits<kAccumulate>(*this, row, logits);
  }
  /// The same for the queries that other operands hold.
  template <bool kAccumulate>
  HWY_INLINE void Logits(const F32Operands& other, size_t row, float* HWY_RESTRICT logits) const {
    const hn::CappedTag<float, 16> d;
    StripProduct<kTileRows, kAccumulate>(d, kTilePositions, dim_,
                                         other.queries_.data() + row * dim_, dim_, keys_.data(),
                                         kTilePositions, logits, kTilePositions);
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
  HWY_INLINE void ResizeQueries(size_t rows, size_t dim) {
    dim_ = dim;
    pairs_ = (dim + 1) / 2;
    queries_.resize(rows * pairs_);
  }
  HWY_INLINE void ResizeKeys(size_t dim) {
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
  template <bool kAccumulate = false>
  HWY_INLINE void Logits(size_t row, float* HWY_RESTRICT logits) const {
    Logits<kAccumulate>(*this, row, logits);
  }
  template <bool kAccumulate>
  HWY_INLINE void Logits(const Bf16Operands& other, size_t row, float* HWY_RESTRICT logits) const {
    Bf16StripProduct<kAccumulate>(kTilePositions, pairs_, other.queries_.data() + row * pairs_,
                                  pairs_, keys_.data(), kTilePositions, logits, kTilePositions);
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

/// Calls `run` with an empty pointer to the operands of a precision, which has been found
/// supported.
template <class Run>
HWY_INLINE void WithOperands(AttentionPrecision precision, const Run& run) {
#if RESTKV_BF16_PRODUCTS
  if (precision == AttentionPrecision::kBf16) return run(static_cast<Bf16Operands*>(nullptr));
#endif
  (void)precision;
  run(static_cast<F32Operands*>(nullptr));
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
