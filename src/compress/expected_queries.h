#pragma once

#include <cstddef>
#include <vector>

#include "restkv/query_statistics.h"

namespace restkv {

/// What queries to come are expected to look like after rotary embedding: a normal distribution.
struct ExpectedQueries {
  std::vector<float> mean;        ///< [d].
  std::vector<float> covariance;  ///< [d, d].
};

/// The queries so far, both moments turned by the average rotation of the positions to come.
ExpectedQueries expected_queries(const QueryStatistics& statistics, size_t head,
                                 const MeanRotation& rotation);

}  // namespace restkv
