#include "base/int8_dot.h"

#include <atomic>

#include "hwy/base.h"

#if HWY_ARCH_X86
#include <cpuid.h>
#endif

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "base/int8_dot.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

bool HasInt8Dot() {
#if HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL
  return __builtin_cpu_supports("avx512vnni") != 0;
#elif HWY_TARGET == HWY_AVX2
  // Older compilers do not know AVX-VNNI. The result is cached: CPUID takes microseconds on a
  // virtual machine, and every block of attention calls this.
  static const bool avx_vnni = [] {
    constexpr unsigned kAvxVnni = 1U << 4U;
    unsigned eax = 0;
    unsigned ebx = 0;
    unsigned ecx = 0;
    unsigned edx = 0;
    return __get_cpuid_count(7, 1, &eax, &ebx, &ecx, &edx) != 0 && (eax & kAvxVnni) != 0;
  }();
  return avx_vnni;
#else
  return false;
#endif
}

bool HasInt8Pairs() {
  return HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3 || HWY_TARGET == HWY_AVX3_DL;
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {
std::atomic<bool> dot_disabled{false};
}

HWY_EXPORT(HasInt8Dot);
HWY_EXPORT(HasInt8Pairs);

bool has_int8_dot() {
  return !dot_disabled.load(std::memory_order_relaxed) && HWY_DYNAMIC_DISPATCH(HasInt8Dot)();
}
bool has_int8_pairs() { return HWY_DYNAMIC_DISPATCH(HasInt8Pairs)(); }
void disable_int8_dot_for_test(bool disabled) { dot_disabled = disabled; }

}  // namespace restkv
#endif  // HWY_ONCE
