#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace restkv::testing {

/// Instruction sets of this build that this machine supports, as Highway target bits.
std::vector<int64_t> simd_targets();
/// Those of them that multiply bytes. One with VNNI comes twice: as it is, and as on older
/// processors that have the same instruction set without VNNI.
std::vector<int64_t> byte_targets();
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
