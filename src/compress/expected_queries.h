#pragma once

#include <cstddef>
#include <vector>

#include "restkv/query_statistics.h"

namespace restkv {

/// Normal distribution of future queries after rotary embedding.
struct ExpectedQueries {
  std::vector<float> mean;        ///< [d].
  std::vector<float> covariance;  ///< [d, d].
};

/// Mean and covariance of the queries so far, rotated by the mean rotation of future positions.
ExpectedQueries expected_queries(const QueryStatistics& statistics, size_t head,
                                 const MeanRotation& rotation);

}  // namespace restkv
