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

/// Parses the whole `text` as a decimal number that `Number` can hold. Returns false and leaves
/// `value` unchanged for anything else: other characters around it, "nan", "inf", "1e309", and for
/// integers "1e3", "0x10" and numbers out of range. Leading zeros ("010" is ten) and the locale are
/// ignored.
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

/// Description of the numbers that `parse_number` accepts, for a message.
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
