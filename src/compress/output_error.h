#pragma once

#include <cstddef>
#include <span>

#include "restkv/aligned.h"
#include "restkv/compress.h"
#include "restkv/selection.h"

namespace restkv {

/// How much a layer's attention says something else if only a part of its rows is kept, to the
/// queries of the observation window:
///
///   sqrt( sum over t of ||W_O (o'_t - o_t)||^2 / sum over t of ||W_O o_t||^2 )
///
/// o_t is the attention of query t to all rows that it sees, o'_t to the kept ones among them alone
/// (the softmax covers these), for all heads of the layer together. Computed in float32, whatever
/// the precision of the prompt was.
class OutputError {
 public:
  /// `heads` as given to `select_ragged`, with the last queries and W_O. They must outlive it.
  OutputError(std::span<const LayerObservation> heads, size_t window);
  /// `kept`: ascending rows of each cache head, which include the window.
  [[nodiscard]] double of(const Selection& kept) const;

 private:
  /// sqrt(sum over t of ||W_O x_t||^2), x: [query_heads, rows_, dim] of all parts.
  [[nodiscard]] double projected_norm(std::span<const float> x) const;

  std::span<const LayerObservation> heads_;
  size_t rows_ = 0;               ///< Queries.
  AlignedVector<float> outputs_;  ///< o: [query_heads, rows_, dim] of all parts.
  double norm_ = 0;
};

/// Throws `Error` (kInvalidArgument) unless `tolerance` is usable with these options.
void check_tolerance(const CompressionOptions& options);

}  // namespace restkv
