// Vector math shared by the kernels. Included once per SIMD target (see hwy/foreach_target.h).

#if defined(RESTKV_BASE_MATH_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESTKV_BASE_MATH_INL_H_
#undef RESTKV_BASE_MATH_INL_H_
#else
#define RESTKV_BASE_MATH_INL_H_
#endif

#include <cstdint>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

inline constexpr float kLog2E = 1.44269504088896340736F;

/// 2^x for x <= 127; relative error below 3e-7 or, with degree 3, 1.1e-4. Below -126 it stays at
/// 2^-126.
///
/// Adding 1.5 * 2^23 rounds x to an integer n and leaves n in the low mantissa bits, so 2^n is a
/// shift and an integer addition; 2^(x - n) is a polynomial: of degree 6 (Taylor coefficients
/// ln(2)^k / k! are within 3e-8 on [-0.5, 0.5]) or 3 (interpolated for the least relative error),
/// both of which keep 2^0 = 1 exact.
template <int kDegree = 6, class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2(D d, V x) {
  const hn::RebindToSigned<D> di;
  const auto magic = hn::Set(d, 12582912.0F);
  x = hn::Max(x, hn::Set(d, -126.0F));
  const auto shifted = hn::Add(x, magic);
  const auto f = hn::Sub(x, hn::Sub(shifted, magic));
  V p;
  if constexpr (kDegree == 6) {
    p = hn::MulAdd(hn::Set(d, 1.5403530e-4F), f, hn::Set(d, 1.3333558e-3F));
    p = hn::MulAdd(p, f, hn::Set(d, 9.6181291e-3F));
    p = hn::MulAdd(p, f, hn::Set(d, 5.5504109e-2F));
    p = hn::MulAdd(p, f, hn::Set(d, 2.4022651e-1F));
    p = hn::MulAdd(p, f, hn::Set(d, 6.9314718e-1F));
  } else {
    static_assert(kDegree == 3);
    p = hn::MulAdd(hn::Set(d, 5.5069931e-2F), f, hn::Set(d, 2.4219439e-1F));
    p = hn::MulAdd(p, f, hn::Set(d, 6.9326476e-1F));
  }
  p = hn::MulAdd(p, f, hn::Set(d, 1.0F));
  const auto n = hn::ShiftLeft<23>(hn::BitCast(di, shifted));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, p), n));
}

template <class D, class V = hn::Vec<D>>
HWY_INLINE V Exp(D d, V x) {
  return Exp2(d, hn::Mul(x, hn::Set(d, kLog2E)));
}

/// tanh(x) = 1 - 2 / (e^(2x) + 1); absolute error below 3e-7, saturates without overflow.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V Tanh(D d, V x) {
  const auto bounded = hn::Clamp(x, hn::Set(d, -20.0F), hn::Set(d, 20.0F));
  const auto e = Exp(d, hn::Add(bounded, bounded));
  return hn::Sub(hn::Set(d, 1.0F), hn::Div(hn::Set(d, 2.0F), hn::Add(e, hn::Set(d, 1.0F))));
}

/// Soft-caps n logits, whole vectors of aligned memory: c tanh(z / c), in units of log2.
HWY_INLINE void SoftCap(float softcap, float* HWY_RESTRICT logits, size_t n) {
  const hn::CappedTag<float, 16> d;
  const auto inverse = hn::Set(d, 1.0F / softcap);
  const auto cap = hn::Set(d, softcap * kLog2E);
  for (size_t j = 0; j < n; j += hn::Lanes(d)) {
    hn::Store(hn::Mul(cap, Tanh(d, hn::Mul(hn::Load(d, logits + j), inverse))), d, logits + j);
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
