#pragma once

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <concepts>
#include <limits>
#include <string>
#include <string_view>
#include <system_error>

namespace restkv {

/// What `text` says as a whole: a decimal number that `Number` can hold. False for anything else,
/// which leaves `value` as it was: other characters before or behind it, "nan", "inf", "1e309", and
/// for whole numbers "1e3", "0x10" and what is out of range. Leading zeros mean nothing ("010" is
/// ten), and neither does the language of the machine.
template <class Number>
bool parse_number(std::string_view text, Number& value) {
  Number parsed{};
  const char* const end = text.data() + text.size();
  const auto [stopped, error] = std::from_chars(text.data(), end, parsed);
  if (error != std::errc() || stopped != end) return false;
  if constexpr (std::floating_point<Number>) {
    if (!std::isfinite(parsed)) return false;
  }
  value = parsed;
  return true;
}

/// What `parse_number` takes, for a message.
template <class Number>
std::string number_wanted() {
  if constexpr (std::floating_point<Number>) {
    return std::same_as<Number, float> ? "a (finite) number of single precision"
                                       : "a (finite) number";
  } else {
    using Limits = std::numeric_limits<Number>;
    return fmt::format("a whole number from {} to {}", Limits::min(), Limits::max());
  }
}

}  // namespace restkv
