#pragma once

#include <cstddef>

#include "hwy/base.h"

namespace restkv {

/// Asks for memory that is read soon: `bytes` at `p`, which need not belong to anybody, on their
/// way to the second-level cache. What streams from memory gains by it, because the arithmetic
/// between two loads keeps the processor from looking far enough ahead by itself.
HWY_INLINE void prefetch(const void* p, size_t bytes) {
  constexpr size_t kLine = 64;
  const char* line = static_cast<const char*>(p);
#pragma GCC unroll 8
  for (size_t i = 0; i < bytes; i += kLine) __builtin_prefetch(line + i, 0, 2);
}

}  // namespace restkv
