#pragma once

#include <cstddef>

#include "hwy/base.h"
#include "restkv/views.h"

namespace restkv {

/// Prefetches `bytes` at `p` into the second-level cache; `p` may be invalid. Kernels that stream
/// from memory need it: arithmetic between two loads keeps the hardware prefetcher from running far
/// enough ahead.
HWY_INLINE void prefetch(const void* p, size_t bytes) {
  constexpr size_t kLine = 64;
  const char* line = static_cast<const char*>(p);
#pragma GCC unroll 8
  for (size_t i = 0; i < bytes; i += kLine) __builtin_prefetch(line + i, 0, 2);
}

/// Prefetches part `part` of `parts` of rows [begin, begin + count) of a head, as far as they
/// exist. For loops that read a tile several times while the next one is fetched.
HWY_INLINE void prefetch_rows(const Heads<const float>& rows, size_t head, size_t begin,
                              size_t count, size_t part, size_t parts) {
  const size_t end = HWY_MIN(begin + count * (part + 1) / parts, rows.rows);
  for (size_t r = begin + count * part / parts; r < end; ++r) {
    prefetch(rows.row(head, r), rows.dim * sizeof(float));
  }
}

}  // namespace restkv
