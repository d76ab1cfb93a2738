#pragma once

#include <cstdint>

#include "bench/job.h"

namespace restkv::bench {

inline constexpr uint32_t kLlamaBatch = 2048;  ///< libllama's default.
inline constexpr uint32_t kLlamaUbatch = 512;  ///< libllama's default.

/// Measures a job in libllama, with a cache in half precision. `ubatch` is the number of tokens
/// that it computes together. A synthetic cache consists of copies of the prompt's first tokens at
/// later positions, and of the prompt's last `Job::tail` tokens. Throws `Error`.
Measurement measure_llama(const Job& job, bool flash_attention, uint32_t ubatch);

}  // namespace restkv::bench
