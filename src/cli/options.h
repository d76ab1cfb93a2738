#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
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
    if (!parse_number(text, value)) {
      return fmt::format("\"{}\" is not {}", text, number_wanted<Number>());
    }
    text = fmt::format("{}", value);
    return std::string();
  };
  return CLI::Validator(read, "");
}

/// The items of texts like "64,128". Throws `CLI::ValidationError` for what is none, for an empty
/// place (CLI11 would leave it out) and for an item that is there already.
template <class Item>
std::vector<Item> parse_list(const std::string& option, const std::vector<std::string>& texts) {
  std::vector<Item> list;
  for (const std::string& text : texts) {
    const auto refuse = [&](const std::string& reason) {
      throw CLI::ValidationError(option, fmt::format("\"{}\" {}", text, reason));
    };
    for (size_t begin = 0; begin <= text.size();) {
      const size_t end = std::min(text.find(',', begin), text.size());
      const std::string part = text.substr(begin, end - begin);
      Item item{};
      if (part.empty()) refuse("has an empty place; put something there or remove a comma");
      if constexpr (std::is_arithmetic_v<Item>) {
        if (!parse_number(part, item)) {
          throw CLI::ValidationError(option,
                                     fmt::format("\"{}\" is not {}", part, number_wanted<Item>()));
        }
      } else {
        item = part;
      }
      if (std::ranges::find(list, item) != list.end()) {
        refuse(fmt::format("names {} a second time; once is enough", part));
      }
      list.push_back(item);
      begin = end + 1;
    }
  }
  return list;
}

/// Whether an option was declared with a list for its value.
inline bool takes_list(const CLI::Option& option) { return option.get_items_expected_max() > 1; }

/// How every command declares an option that has a value: with its default in the help, numbers
/// read as above, and lists (vectors) separated by commas. `type` is what the help shows as the
/// value.
template <class T>
CLI::Option* add_value(CLI::App& app, const std::string& name, T& value, const std::string& help,
                       const std::string& type) {
  if constexpr (std::is_arithmetic_v<T>) {
    return app.add_option(name, value, help)
        ->type_name(type)
        ->capture_default_str()
        ->transform(number<T>());
  } else if constexpr (std::is_same_v<T, std::string>) {
    return app.add_option(name, value, help)->type_name(type)->capture_default_str();
  } else {
    const std::string option_name = name.substr(name.rfind(',') + 1);
    const auto read = [&value, option_name](const std::vector<std::string>& texts) {
      value = parse_list<typename T::value_type>(option_name, texts);
      return true;
    };
    return app.add_option(name, read, help)
        ->type_name(type)
        ->expected(1, CLI::detail::expected_max_vector_size)
        ->default_str(fmt::format("{}", fmt::join(value, ",")));
  }
}

}  // namespace restkv::cli
