#include "support/simd.h"

#include "hwy/highway.h"

namespace restkv::testing {

std::vector<int64_t> simd_targets() { return hwy::SupportedAndGeneratedTargets(); }

std::string simd_target_name(int64_t target) { return hwy::TargetName(target); }

ForcedSimdTarget::ForcedSimdTarget(int64_t target) {
  hwy::SetSupportedTargetsForTest(target);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

ForcedSimdTarget::~ForcedSimdTarget() {
  hwy::SetSupportedTargetsForTest(0);
  hwy::GetChosenTarget().Update(hwy::SupportedTargets());
}

}  // namespace restkv::testing
