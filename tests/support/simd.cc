#include "support/simd.h"

#include "base/int8_dot.h"
#include "hwy/highway.h"

namespace restkv::testing {
namespace {

/// Added to a target whose VNNI is hidden: a bit that no target has.
constexpr int64_t kWithoutVnni = 1;
static_assert((HWY_TARGETS & kWithoutVnni) == 0);

}  // namespace

std::vector<int64_t> simd_targets() { return hwy::SupportedAndGeneratedTargets(); }

std::vector<int64_t> byte_targets() {
  std::vector<int64_t> targets;
  for (const int64_t target : simd_targets()) {
    const ForcedSimdTarget forced(target);
    if (has_int8_pairs()) targets.push_back(target);
    if (has_int8_dot()) targets.push_back(target | kWithoutVnni);
  }
  return targets;
}

std::string simd_target_name(int64_t target) {
  const std::string name = hwy::TargetName(target & ~kWithoutVnni);
  return (target & kWithoutVnni) != 0 ? name + "_without_VNNI" : name;
}

ForcedSimdTarget::ForcedSimdTarget(int64_t target) {
  hwy::SetSupportedTargetsForTest(target & ~kWithoutVnni);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  disable_int8_dot_for_test((target & kWithoutVnni) != 0);
}

ForcedSimdTarget::~ForcedSimdTarget() {
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
  disable_int8_dot_for_test(false);
}

}  // namespace restkv::testing
