#pragma once

#include <cstdint>
#include <vector>

namespace restkv {

/// Kept positions of each cache head, in ascending order. A cache head is a KV head, or a query
/// head with `per_query_head`.
struct Selection {
  std::vector<std::vector<int32_t>> keep;
};

}  // namespace restkv
