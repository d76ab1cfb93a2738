#include "restkv/budget.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/parse_number.h"
#include "restkv/error.h"

namespace restkv {

int Budget::of(size_t n) const {
  if (share == 0) return tokens;
  // 0.7% of 1000 are 7, although the product of the doubles is a little less.
  constexpr double kRounding = 1e-9;
  const double kept = share * static_cast<double>(n) * (1 + kRounding);
  return std::max(1, static_cast<int>(std::floor(kept)));
}

std::string Budget::text() const {
  return share == 0 ? fmt::format("{}", tokens) : fmt::format("{:g}%", 100 * share);
}

Budget parse_budget(std::string_view text) {
  Budget budget;
  if (text.ends_with('%')) {
    double percent = 0;
    if (parse_number(text.substr(0, text.size() - 1), percent) && percent > 0 && percent <= 100) {
      budget.share = percent / 100;
      return budget;
    }
  } else if (parse_number(text, budget.tokens) && budget.tokens > 0) {
    return budget;
  }
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("the budget is \"{}\"; expected a number of tokens (512) or a share of "
                          "the prompt above 0% and up to 100% (12.5%)",
                          text));
}

}  // namespace restkv
