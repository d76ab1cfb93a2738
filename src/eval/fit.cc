#include "eval/fit.h"

#include <algorithm>
#include <cmath>

namespace restkv::eval {

size_t largest_that_fits(const FitRange& range, size_t limit,
                         const std::function<size_t(size_t)>& size) {
  size_t low = range.low;
  size_t high = range.high;
  size_t guess = range.guess;
  while (high - low > 1) {
    guess = std::clamp(guess, low + 1, high - 1);
    const size_t measured = size(guess);
    (measured <= limit ? low : high) = guess;
    const double slope = (static_cast<double>(measured) - static_cast<double>(range.low_size)) /
                         static_cast<double>(guess - range.low);
    const double missing = static_cast<double>(limit) - static_cast<double>(measured);
    guess = static_cast<size_t>(
        std::max(0.0, std::round(static_cast<double>(guess) + missing / std::max(1.0, slope))));
  }
  return low;
}

}  // namespace restkv::eval
