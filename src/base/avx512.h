#pragma once

namespace restkv {

/// Whether kernels run on AVX-512: the processor has it, and no test has disabled it. The answer is
/// cached; `hwy::SupportedTargets` queries the processor every time.
bool runs_avx512();

}  // namespace restkv
