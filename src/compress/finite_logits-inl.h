// Logits of a strip of queries with a check. Included once per SIMD target (see
// hwy/foreach_target.h).

#if defined(RESTKV_COMPRESS_FINITE_LOGITS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESTKV_COMPRESS_FINITE_LOGITS_INL_H_
#undef RESTKV_COMPRESS_FINITE_LOGITS_INL_H_
#else
#define RESTKV_COMPRESS_FINITE_LOGITS_INL_H_
#endif

#include <cstddef>

#include "attention/bias-inl.h"
#include "base/gemm-inl.h"
#include "base/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Products of kTileRows packed queries from `row` on with a tile of keys, [kTileRows,
/// kTilePositions]; soft-capped ones are in units of log2. `bias`: of the keys, as `TileBias` gives
/// it, or null. Returns whether the products are all finite.
template <class Operands>
HWY_INLINE bool FiniteLogits(const Operands& tile, const Operands& queries, size_t row,
                             float softcap, const float* bias, float* HWY_RESTRICT logits) {
  const hn::CappedTag<float, 16> d;
  constexpr size_t kLanes = hn::MaxLanes(hn::CappedTag<float, 16>());
  tile.template Logits<false>(queries, row, logits);
  auto poison = hn::Zero(d);  // becomes NaN as soon as one logit is not finite: inf * 0 = NaN
  for (size_t i = 0; i < kTileRows * kTilePositions; i += kLanes) {
    poison = hn::MulAdd(hn::Load(d, logits + i), hn::Zero(d), poison);
  }
  if (softcap > 0) SoftCap(softcap, logits, kTileRows * kTilePositions);
  if (bias != nullptr) AddBias(bias, logits, kTileRows);
  return hn::AllTrue(d, hn::Eq(poison, hn::Zero(d)));
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
