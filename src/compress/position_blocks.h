#pragma once

#include <algorithm>
#include <cstddef>

#include "base/threads.h"

namespace restkv {

/// Positions that a thread takes at a time.
inline constexpr size_t kBlockPositions = 512;

inline size_t position_blocks(size_t positions) {
  return (positions + kBlockPositions - 1) / kBlockPositions;
}

/// Calls body(head, begin, end) for every block [begin, end) of every head's positions, in
/// parallel. Each thread takes a run of blocks that are adjacent in memory.
template <class Body>
void for_each_block(size_t heads, size_t positions, const Body& body) {
  const size_t blocks = position_blocks(positions);
  parallel_for(
      heads * blocks,
      [&](size_t task, size_t) {
        const size_t begin = task % blocks * kBlockPositions;
        body(task / blocks, begin, std::min(positions, begin + kBlockPositions));
      },
      Sharing::kRuns);
}

}  // namespace restkv
