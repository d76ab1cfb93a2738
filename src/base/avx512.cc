#include "base/avx512.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "base/avx512.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {
bool IsAvx512() { return HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL; }
}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
HWY_EXPORT(IsAvx512);
bool runs_avx512() { return HWY_DYNAMIC_DISPATCH(IsAvx512)(); }
}  // namespace restkv
#endif  // HWY_ONCE
