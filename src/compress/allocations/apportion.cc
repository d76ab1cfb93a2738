#include <algorithm>
#include <cmath>
#include <numeric>

#include "compress/allocation.h"

namespace restkv {

std::vector<size_t> apportion(std::span<const double> shares, size_t total) {
  std::vector<size_t> counts;
  std::vector<double> lost;
  size_t given = 0;
  for (const double share : shares) {
    // A share that is an integer except for rounding errors counts as one.
    const double whole = std::floor(share + 1e-9);
    counts.push_back(static_cast<size_t>(whole));
    lost.push_back(share - whole);
    given += counts.back();
  }
  std::vector<size_t> order(shares.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return lost[a] > lost[b]; });
  for (size_t i = 0; i < order.size() && given < total; ++i, ++given) ++counts[order[i]];
  return counts;
}

}  // namespace restkv
