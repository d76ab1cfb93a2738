#pragma once

namespace restkv {

/// Whether kernels run on AVX-512: the processor has it, and no test has switched it off. Costs
/// next to nothing; `hwy::SupportedTargets` asks the processor anew each time.
bool runs_avx512();

}  // namespace restkv
