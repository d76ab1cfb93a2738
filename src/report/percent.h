#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <string>

namespace restkv::eval {

/// 0.5 as "50%".
inline std::string percent(double share) { return fmt::format("{:.3g}%", 100 * share); }

/// 3994 as "3,994".
inline std::string grouped(size_t number) {
  std::string digits = fmt::format("{}", number);
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, 1, ',');
  return digits;
}

}  // namespace restkv::eval
