#pragma once

#include <cstddef>
#include <functional>

namespace restkv::eval {

struct FitRange {
  size_t low = 0;       ///< Known to fit.
  size_t low_size = 0;  ///< size(low).
  size_t high = 0;      ///< Known or taken not to fit.
  size_t guess = 0;     ///< Measured first, if it lies between the two.
};

/// The largest n in [low, high) with size(n) <= limit; `size` must grow with n. Sizes are nearly
/// proportional to n, so each guess extrapolates the line through size(low) and the last guess,
/// within the bracket. Calls `size` about half a dozen times.
size_t largest_that_fits(const FitRange& range, size_t limit,
                         const std::function<size_t(size_t)>& size);

}  // namespace restkv::eval
