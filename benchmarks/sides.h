#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "bench/job.h"
#include "restkv/compress.h"

/// The compared runtimes in all settings that could be their fastest.
namespace restkv::bench {

enum class RuntimeName : uint8_t { kRestkv, kLlama, kOpenVino };

struct Side {
  std::string_view name;
  RuntimeName runtime = RuntimeName::kRestkv;
  bool full_cache = false;             ///< restkv: keep everything instead of compressing.
  std::string_view precision = "f32";  ///< restkv: precision of products and attention of prompts.
  bool sparse = false;                 ///< restkv: sparse prefill.
  bool flash_attention = false;        ///< libllama.
  uint32_t ubatch = 0;                 ///< libllama: tokens computed together.

  [[nodiscard]] bool is_restkv() const { return runtime == RuntimeName::kRestkv; }
  [[nodiscard]] std::string title(const CompressionOptions& compression) const;
};

/// In the order of measurement: the runtimes take turns.
std::span<const Side> sides();

/// Measures a job of this process's side: restkv or libllama. Throws `Error`.
Measurement measure_side(const Job& job);

}  // namespace restkv::bench
