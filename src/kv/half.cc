#include "kv/half.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "kv/half.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

template <class D>
HWY_INLINE void Demote(D d, const float* from, uint16_t* to) {
  const hn::Rebind<hwy::float16_t, D> dh;
  hn::StoreU(hn::DemoteTo(dh, hn::LoadU(d, from)), dh, reinterpret_cast<hwy::float16_t*>(to));
}

void ToHalf(const float* from, size_t count, uint16_t* to) {
  const hn::CappedTag<float, 16> d;
  size_t i = 0;
  for (; i + hn::Lanes(d) <= count; i += hn::Lanes(d)) Demote(d, from + i, to + i);
  for (; i < count; ++i) Demote(hn::CappedTag<float, 1>(), from + i, to + i);
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(ToHalf);

void to_half(const float* from, size_t count, uint16_t* to) {
  HWY_DYNAMIC_DISPATCH(ToHalf)(from, count, to);
}

}  // namespace restkv
#endif  // HWY_ONCE
