#pragma once

#include <cstddef>

#include "hwy/base.h"
#include "restkv/views.h"

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

/// The same for a share of rows [begin, begin + count) of a head, as far as they are there: part
/// `part` of `parts`. For loops that go through a tile several times while the next one may come.
HWY_INLINE void prefetch_rows(const Heads<const float>& rows, size_t head, size_t begin,
                              size_t count, size_t part, size_t parts) {
  const size_t end = HWY_MIN(begin + count * (part + 1) / parts, rows.rows);
  for (size_t r = begin + count * part / parts; r < end; ++r) {
    prefetch(rows.row(head, r), rows.dim * sizeof(float));
  }
}

}  // namespace restkv
