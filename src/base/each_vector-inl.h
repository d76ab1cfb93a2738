// Loops over arrays. Included once per SIMD target (see hwy/foreach_target.h).

#if defined(RESTKV_BASE_EACH_VECTOR_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef RESTKV_BASE_EACH_VECTOR_INL_H_
#undef RESTKV_BASE_EACH_VECTOR_INL_H_
#else
#define RESTKV_BASE_EACH_VECTOR_INL_H_
#endif

#include <cstddef>

#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

/// Calls body(d, i) for vectors of floats that cover [0, count), with single lanes at the end.
template <class Body>
HWY_INLINE void ForEachVector(size_t count, const Body& body) {
  const hn::CappedTag<float, 16> d;
  const size_t lanes = hn::Lanes(d);
  size_t i = 0;
  for (; i + lanes <= count; i += lanes) body(d, i);
  for (; i < count; ++i) body(hn::CappedTag<float, 1>(), i);
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#endif
