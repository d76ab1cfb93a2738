#pragma once

#include <fmt/format.h>

#include <cstddef>
#include <string>
#include <vector>

namespace restkv::eval {

/// 0.5 as "50%".
inline std::string percent(double share) { return fmt::format("{:.3g}%", 100 * share); }

/// 3994 as "3,994".
inline std::string grouped(size_t number) {
  std::string digits = fmt::format("{}", number);
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, 1, ',');
  return digits;
}

/// "a, b and c"
inline std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i) {
    text += i == 0 ? "" : i + 1 == names.size() ? " and " : ", ";
    text += names[i];
  }
  return text;
}

}  // namespace restkv::eval
