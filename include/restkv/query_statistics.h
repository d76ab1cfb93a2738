#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "restkv/views.h"

namespace restkv {

class ByteReader;
class ByteWriter;

/// Mean and covariance of the queries of each query head. Blocks are merged by the formula of Chan,
/// Golub and LeVeque (1983) in O(query_heads * d^2) memory.
class QueryStatistics {
 public:
  QueryStatistics() = default;
  QueryStatistics(size_t query_heads, size_t head_dim);

  /// Adds rows [query_heads, m, head_dim]. Throws `Error` (kInvalidArgument) on other shapes.
  void add(Heads<const float> queries);

  [[nodiscard]] size_t heads() const { return heads_; }
  [[nodiscard]] size_t head_dim() const { return dim_; }
  [[nodiscard]] size_t count() const { return count_; }
  /// [head_dim]; zeros if no row was added.
  [[nodiscard]] std::vector<float> mean(size_t head) const;
  /// [head_dim, head_dim], row-major: sums of products of deviations, divided by the count.
  [[nodiscard]] std::vector<float> covariance(size_t head) const;

  /// For snapshots. `load` replaces the statistics by saved ones of the same shape; it throws
  /// `Error` (kInput) on others.
  void save(ByteWriter& out) const;
  void load(ByteReader& in);

 private:
  /// Adds a block of rows with mean [d] and scatter [d, d] (empty: zeros).
  template <class T>
  void merge(size_t head, size_t rows, std::span<const T> block_mean,
             std::span<const float> scatter);

  size_t heads_ = 0;
  size_t dim_ = 0;
  size_t count_ = 0;
  std::vector<double> means_;     ///< [heads, d].
  std::vector<double> scatters_;  ///< [heads, d, d]: sums of products of deviations.
};

/// A rotary embedding averaged over positions: pair i becomes (a cos_i - b sin_i, a sin_i + b
/// cos_i), where cosine and sine are means over the positions. Channels from 2 * pairs on are not
/// rotated.
struct MeanRotation {
  std::vector<float> cosine;  ///< [pairs].
  std::vector<float> sine;    ///< [pairs].
  bool halves = true;         ///< Pairs are (i, i + pairs), else (2i, 2i + 1).

  /// x <- R x for a vector of at least 2 * pairs elements, `stride` apart.
  void rotate(float* x, size_t stride = 1) const;
};

}  // namespace restkv
