#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace restkv::testing {

/// Instruction sets of this build that this machine supports, as Highway target bits.
std::vector<int64_t> simd_targets();
std::string simd_target_name(int64_t target);

/// Makes all kernels run on one instruction set while it exists.
class ForcedSimdTarget {
 public:
  explicit ForcedSimdTarget(int64_t target);
  ~ForcedSimdTarget();
  ForcedSimdTarget(const ForcedSimdTarget&) = delete;
  ForcedSimdTarget& operator=(const ForcedSimdTarget&) = delete;
};

}  // namespace restkv::testing
