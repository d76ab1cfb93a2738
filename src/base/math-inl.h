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

/// 2^x for x <= 127; relative error below 3e-7 or, with degree 3, 1.1e-4. Below -126 the result is
/// at most 2^-126 and not negative.
///
/// The floor of x becomes the exponent. For the rest f, 2^f is a polynomial with the least relative
/// error on [0, 1] and 2^0 = 1 exactly.
template <int kDegree = 5, class D, class V = hn::Vec<D>>
HWY_INLINE V Exp2(D d, V x) {
  const auto power = [&](V f) HWY_ATTR {
    V p;
    if constexpr (kDegree == 5) {
      p = hn::MulAdd(hn::Set(d, 1.8671316e-3F), f, hn::Set(d, 9.017027e-3F));
      p = hn::MulAdd(p, f, hn::Set(d, 5.5799916e-2F));
      p = hn::MulAdd(p, f, hn::Set(d, 2.4016444e-1F));
      p = hn::MulAdd(p, f, hn::Set(d, 6.931513e-1F));
    } else {
      static_assert(kDegree == 3);
      p = hn::MulAdd(hn::Set(d, 7.7067144e-2F), f, hn::Set(d, 2.2764489e-1F));
      p = hn::MulAdd(p, f, hn::Set(d, 6.951168e-1F));
    }
    return hn::MulAdd(p, f, hn::Set(d, 1.0F));
  };
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  if constexpr (hn::MaxLanes(D()) == 16) {  // one instruction for the rest, one for the exponent
    constexpr int kFromFloor = 9;
    return V{_mm512_scalef_ps(power(V{_mm512_reduce_ps(x.raw, kFromFloor)}).raw, x.raw)};
  }
#endif
  const hn::RebindToSigned<D> di;
  x = hn::Max(x, hn::Set(d, -126.0F));
  const auto whole = hn::Floor(x);
  const auto exponent = hn::ShiftLeft<23>(hn::ConvertTo(di, whole));
  return hn::BitCast(d, hn::Add(hn::BitCast(di, power(hn::Sub(x, whole))), exponent));
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

/// Soft-caps n logits in units of log2: c tanh(z / c). `logits` is aligned; n is whole vectors.
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
