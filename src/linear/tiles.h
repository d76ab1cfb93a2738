#pragma once

#include <algorithm>
#include <cstddef>

#include "base/threads.h"

namespace restkv {

/// Columns of a tile of `for_each_tile`.
inline constexpr size_t kTileColumns = 192;

/// Splits a product y [rows, columns]: calls `body(row, rows, column, columns)` for every tile of
/// y, in parallel. Tiles do not depend on the number of threads, so neither does the result. They
/// are small, so that a matrix of a few hundred columns keeps all threads busy.
template <class Body>
void for_each_tile(size_t rows, size_t columns, const Body& body) {
  constexpr size_t kRows = 256;
  const size_t row_tiles = (rows + kRows - 1) / kRows;
  parallel_for((columns + kTileColumns - 1) / kTileColumns * row_tiles, [&](size_t task, size_t) {
    const size_t column = task / row_tiles * kTileColumns;
    const size_t row = task % row_tiles * kRows;
    body(row, std::min(kRows, rows - row), column, std::min(kTileColumns, columns - column));
  });
}

/// Calls `body(r)` for every row, in parallel, in runs of 32 neighbours.
template <class Body>
void for_each_row(size_t rows, const Body& body) {
  constexpr size_t kChunk = 32;
  parallel_for((rows + kChunk - 1) / kChunk, [&](size_t task, size_t) {
    for (size_t r = task * kChunk; r < std::min(rows, (task + 1) * kChunk); ++r) body(r);
  });
}

}  // namespace restkv
