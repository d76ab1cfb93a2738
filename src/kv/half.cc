#include "kv/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/half.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
/// Uses the processor's instruction and drops the payload of NaN.
template <class D>
HWY_INLINE void Demote(D d, const float* from, uint16_t* to) {
  const hn::Rebind<hwy::float16_t, D> d16;
  const hn::Rebind<uint16_t, D> du16;
  const hn::RebindToSigned<decltype(du16)> di16;
  const auto half = hn::BitCast(di16, hn::DemoteTo(d16, hn::LoadU(d, from)));
  const auto magnitude = hn::And(half, hn::Set(di16, 0x7fff));
  const auto no_number = hn::Gt(magnitude, hn::Set(di16, 0x7c00));
  const auto plain = hn::And(half, hn::Set(di16, static_cast<int16_t>(0xfe00)));
  hn::StoreU(hn::BitCast(du16, hn::IfThenElse(no_number, plain, half)), du16, to);
}
#else
/// Uses integers: without such an instruction Highway's DemoteTo truncates and knows no infinity,
/// and a cache must not depend on the processor that made it.
template <class D>
HWY_INLINE void Demote(D d, const float* from, uint16_t* to) {
  const hn::RebindToSigned<D> di;
  const hn::RebindToUnsigned<D> du;
  const auto bits = hn::BitCast(di, hn::LoadU(d, from));
  const auto magnitude = hn::And(bits, hn::Set(di, 0x7fffffff));
  // Drops 13 bits of mantissa. Adding half a unit in the last place, less one unless the result
  // would be odd, rounds to even; the carry may reach the exponent. The exponents differ by 112.
  const auto odd = hn::And(hn::ShiftRight<13>(magnitude), hn::Set(di, 1));
  const auto rounded = hn::Add(hn::Add(magnitude, odd), hn::Set(di, 0xfff - (112 << 23)));
  const auto normal = hn::Min(hn::ShiftRight<13>(rounded), hn::Set(di, 0x7c00));
  // Below 2^-14 halves are multiples of 2^-24, as floats from 0.5 on are: the addition rounds.
  const auto half = hn::Set(d, 0.5F);
  const auto subnormal =
      hn::Sub(hn::BitCast(di, hn::Add(hn::BitCast(d, magnitude), half)), hn::BitCast(di, half));
  auto result = hn::IfThenElse(hn::Lt(magnitude, hn::Set(di, 113 << 23)), subnormal, normal);
  result = hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, 0x7f800000)), hn::Set(di, 0x7e00), result);
  const auto sign =
      hn::And(hn::BitCast(di, hn::ShiftRight<16>(hn::BitCast(du, bits))), hn::Set(di, 0x8000));
  const hn::Rebind<uint16_t, D> du16;
  hn::StoreU(hn::DemoteTo(du16, hn::Or(result, sign)), du16, to);
}

#endif

/// Whether no exponent is the one of infinity and NaN.
bool AllFinite(const uint16_t* halves, size_t count) {
  constexpr uint16_t kExponent = 0x7c00;
  const hn::CappedTag<uint16_t, 32> d;
  const size_t lanes = hn::Lanes(d);
  auto largest = hn::Zero(d);
  uint16_t rest = 0;
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) {
    largest = hn::Max(largest, hn::And(hn::LoadU(d, halves + i), hn::Set(d, kExponent)));
  }
  for (; i < count; ++i) rest = HWY_MAX(rest, static_cast<uint16_t>(halves[i] & kExponent));
  return rest < kExponent && hn::GetLane(hn::MaxOfLanes(d, largest)) < kExponent;
}

bool ToHalf(const float* from, size_t count, uint16_t* to) {
  const hn::CappedTag<float, 16> d;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) Demote(d, from + i, to + i);
  for (; i < count; ++i) Demote(hn::CappedTag<float, 1>(), from + i, to + i);
  return AllFinite(to, count);
}

/// Half to float, in integers for the same reason.
template <class D>
HWY_INLINE void Promote(D d, const uint16_t* from, float* to) {
  const hn::RebindToSigned<D> di;
  const hn::RebindToUnsigned<D> du;
  const hn::Rebind<uint16_t, D> du16;
  const auto bits = hn::PromoteTo(du, hn::LoadU(du16, from));
  const auto magnitude = hn::BitCast(di, hn::And(bits, hn::Set(du, 0x7fff)));
  const auto normal = hn::Add(hn::ShiftLeft<13>(magnitude), hn::Set(di, 112 << 23));
  const auto infinite = hn::Add(normal, hn::Set(di, 112 << 23));  // and NaN
  const auto subnormal =
      hn::BitCast(di, hn::Mul(hn::ConvertTo(d, magnitude), hn::Set(d, 0x1p-24F)));
  auto result = hn::IfThenElse(hn::Lt(magnitude, hn::Set(di, 0x400)), subnormal, normal);
  result = hn::IfThenElse(hn::Gt(magnitude, hn::Set(di, 0x7bff)), infinite, result);
  const auto sign = hn::BitCast(di, hn::ShiftLeft<16>(hn::And(bits, hn::Set(du, 0x8000))));
  hn::StoreU(hn::BitCast(d, hn::Or(result, sign)), d, to);
}

void FromHalf(const uint16_t* from, size_t count, float* to) {
  const hn::CappedTag<float, 16> d;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) Promote(d, from + i, to + i);
  for (; i < count; ++i) Promote(hn::CappedTag<float, 1>(), from + i, to + i);
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(ToHalf);
HWY_EXPORT(FromHalf);

bool to_half(const float* from, size_t count, uint16_t* to) {
  return HWY_DYNAMIC_DISPATCH(ToHalf)(from, count, to);
}

void from_half(const uint16_t* from, size_t count, float* to) {
  HWY_DYNAMIC_DISPATCH(FromHalf)(from, count, to);
}

}  // namespace restkv
#endif  // HWY_ONCE
