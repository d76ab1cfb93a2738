#pragma once

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <limits>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/parse_number.h"

namespace restkv::cli {

/// Lets through what `parse_number` reads, and hands CLI11 the number in its shortest form: by
/// itself it would take "010" for eight, " 5" for five, "inf" for a temperature and
/// 99999999999999999999 for the largest seed.
template <class Number>
CLI::Validator number() {
  const auto read = [](std::string& text) {
    Number value{};
    if (parse_number(text, value)) {
      text = fmt::format("{}", value);
      return std::string();
    }
    std::string expected = "a (finite) number";
    if constexpr (std::is_integral_v<Number>) {
      using Limits = std::numeric_limits<Number>;
      expected = fmt::format("a whole number from {} to {}", Limits::min(), Limits::max());
    }
    return fmt::format("\"{}\" is not {}", text, expected);
  };
  return CLI::Validator(read, "");
}

/// How every command declares an option that has a value: with its default in the help, numbers
/// read as above, and lists (vectors) separated by commas. `type` is what the help shows as the
/// value.
template <class T>
CLI::Option* add_value(CLI::App& app, const std::string& name, T& value, const std::string& help,
                       const std::string& type) {
  CLI::Option* option = app.add_option(name, value, help)->type_name(type);
  if constexpr (std::is_arithmetic_v<T>) {
    option->capture_default_str()->transform(number<T>());
  } else if constexpr (std::is_same_v<T, std::string>) {
    option->capture_default_str();
  } else {
    option->delimiter(',');
    if (!value.empty()) option->capture_default_str();
    if constexpr (std::is_arithmetic_v<typename T::value_type>) {
      option->transform(number<typename T::value_type>());
    }
  }
  return option;
}

}  // namespace restkv::cli
