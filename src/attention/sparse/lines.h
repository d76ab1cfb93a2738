#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "attention/sparse/pattern.h"

namespace restkv {

/// Attention of a layer's last queries, summed by tiles of columns and of diagonals.
struct LineVotes {
  /// Weights that key tiles receive: [query_heads][tiles]. A head's weights sum to the number of
  /// queries.
  std::vector<std::vector<float>> columns;
  /// Weights at distances [64 s, 64 s + 64) between query and key: [query_heads][tiles].
  std::vector<std::vector<float>> diagonals;
};

/// Sums the softmax weights of `layer.last_queries` over all keys, without storing all of them.
LineVotes line_votes(const SparseLayer& layer);

/// Columns and diagonals, in tiles, that a head keeps.
struct Lines {
  std::vector<uint32_t> columns, diagonals;

  /// Marks them for one block of queries whose first row is key row `position`.
  void mark(size_t position, size_t tiles, uint8_t* marks) const;
};

}  // namespace restkv
