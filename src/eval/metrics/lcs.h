#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <unordered_map>
#include <vector>

namespace restkv::eval {

/// A sequence prepared for longest common subsequences with several others ("rows"). The table L of
/// the lengths for all pairs of prefixes is kept as one bit per cell (Crochemore et al., "A fast
/// and practical bit-vector algorithm for the longest common subsequence problem", 2001), so that
/// two texts of 20,000 words need 50 MB and a fraction of a second.
class LcsColumns {
 public:
  explicit LcsColumns(std::span<const uint32_t> columns);

  [[nodiscard]] size_t length(std::span<const uint32_t> rows) const;

  /// One longest common subsequence, found by walking from the last cell of L to row or column 0.
  struct Walk {
    std::vector<size_t> rows;     ///< Positions of the common items, ascending.
    std::vector<size_t> columns;  ///< The same in the columns.
    size_t steps = 0;             ///< Including those along common items.
  };
  /// At equal items the walk takes them and steps diagonally; else it steps to row i-1 if
  /// L[i-1][j] > L[i][j-1], and to column j-1 otherwise. Needs rows * columns / 8 bytes.
  [[nodiscard]] Walk walk(std::span<const uint32_t> rows) const;

 private:
  /// Occurrences of an item in 64 columns of the sequence, at least one.
  struct Occurrences {
    size_t word;
    uint64_t columns;
  };
  /// A row of L: bit j is clear where L[i][j+1] = L[i][j] + 1, and set where they are equal.
  using Row = std::span<uint64_t>;
  /// Computes row i from row i-1 for the item of row i.
  void advance(uint32_t item, Row row) const;

  std::vector<uint32_t> columns_;
  size_t words_;
  std::unordered_map<uint32_t, std::vector<Occurrences>> occurrences_;
};

}  // namespace restkv::eval
