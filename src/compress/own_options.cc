#include "compress/own_options.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "base/parse_number.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"

namespace restkv {
namespace {

[[noreturn]] void refuse(std::string_view option, std::string_view value,
                         const std::string& expected) {
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("{} is \"{}\"; expected {}", option, value, expected));
}

/// Index of `word` among "key|value|mean"; npos if it is none of them.
size_t place_of(std::string_view word, std::string_view words) {
  for (size_t place = 0;; ++place) {
    const size_t end = std::min(words.find('|'), words.size());
    if (words.substr(0, end) == word) return place;
    if (end == words.size()) return std::string_view::npos;
    words.remove_prefix(end + 1);
  }
}

/// "one of key, value, mean"
std::string one_of(std::string_view words) {
  std::string list = "one of ";
  for (const char c : words) list += c == '|' ? std::string(", ") : std::string(1, c);
  return list;
}

/// A number, or the word "none" for its absence.
bool is_number_or_word(const OwnOption& option) { return option.values == "X|none"; }

std::string expected_by(const OwnOption& option) {
  if (std::holds_alternative<bool>(option.initial)) return "true or false";
  if (std::holds_alternative<int>(option.initial)) return number_wanted<int>();
  if (std::holds_alternative<double>(option.initial)) return number_wanted<double>();
  if (is_number_or_word(option)) return number_wanted<double>() + ", or none";
  return one_of(option.values);
}

std::string print(const OptionValue& value) {
  return std::visit([](const auto& x) { return fmt::format("{}", x); }, value);
}

/// Whether the value has the type of the option; integers suit real options.
bool suits(const OwnOption& option, const OptionValue& value) {
  if (std::holds_alternative<double>(option.initial)) {
    if (const double* x = std::get_if<double>(&value)) return std::isfinite(*x);
    return std::holds_alternative<int>(value);
  }
  const std::string* word = std::get_if<std::string>(&value);
  if (is_number_or_word(option)) {
    if (word != nullptr) return *word == "none";
    const double* x = std::get_if<double>(&value);
    return x != nullptr ? std::isfinite(*x) : std::holds_alternative<int>(value);
  }
  if (value.index() != option.initial.index()) return false;
  return word == nullptr || place_of(*word, option.values) != std::string_view::npos;
}

const OwnOption& own_option(const Method& method, std::string_view name) {
  const OwnOption* option = find_own_option(method, name);
  if (option != nullptr) return *option;
  std::vector<std::string_view> names;
  for (const OwnOption& own : method.own_options) names.push_back(own.name);
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("method {} has no option {}; those of its own are {}", method.name, name,
                          names.empty() ? "none" : fmt::format("{}", fmt::join(names, ", "))));
}

struct Given {
  const OwnOption& option;
  const OptionValue& value;
};

Given given(const CompressionOptions& options, std::string_view name) {
  const OwnOption& option = own_option(find_method(options.method), name);
  const auto value = options.own.find(name);
  if (value == options.own.end()) return {option, option.initial};
  if (!suits(option, value->second)) refuse(name, print(value->second), expected_by(option));
  return {option, value->second};
}

/// Throws for a method whose code reads an option as another type than it declares.
template <class T>
const T& read(const Given& given) {
  if (const T* value = std::get_if<T>(&given.value)) return *value;
  refuse(given.option.name, print(given.value), "a value of another type where it is read");
}

OptionValue parse(const OwnOption& option, std::string_view text) {
  bool good = false;
  OptionValue value = option.initial;
  if (bool* truth = std::get_if<bool>(&value)) {
    good = text == "true" || text == "false";
    *truth = text == "true";
  } else if (int* whole = std::get_if<int>(&value)) {
    good = parse_number(text, *whole);
  } else if (double* real = std::get_if<double>(&value)) {
    good = parse_number(text, *real);
  } else if (double number = 0; is_number_or_word(option) && parse_number(text, number)) {
    good = true;
    value = number;
  } else {
    good = is_number_or_word(option) ? text == "none"
                                     : place_of(text, option.values) != std::string_view::npos;
    value = std::string(text);
  }
  if (!good) refuse(option.name, text, expected_by(option));
  return value;
}

}  // namespace

const OwnOption* find_own_option(const Method& method, std::string_view option) {
  const auto found = std::ranges::find(method.own_options, option, &OwnOption::name);
  return found == method.own_options.end() ? nullptr : &*found;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && std::ranges::all_of(name, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_';
  });
}

void check_declarations(const Method& method) {
  const auto reject = [&](const OwnOption& option, const std::string& reason) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format(R"(method "{}" declares an option "{}", {})", method.name, option.name,
                            reason));
  };
  for (const OwnOption& option : method.own_options) {
    if (!is_plain_name(option.name)) {
      reject(option, "whose name must be of letters, digits, - and _");
    }
    if (option.name == "method" || option.name == "preset") {
      reject(option, "which says what the others are; choose another name");
    }
    if (std::ranges::count(method.own_options, option.name, &OwnOption::name) > 1) {
      reject(option, "and declares it again; leave one out");
    }
    if (!suits(option, option.initial)) {
      reject(option, fmt::format("whose initial value is \"{}\"; expected {}",
                                 print(option.initial), expected_by(option)));
    }
    for (const CompressionOption& known : compression_options()) {
      if (known.name != option.name || (!known.shared && known.values == option.values)) continue;
      reject(option, fmt::format("but there is one already, which takes {}; choose another name",
                                 known.values));
    }
  }
  for (const OptionCondition& condition : method.conditions) {
    if (find_own_option(method, condition.option) == nullptr || condition.holds == nullptr) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("method \"{}\" has a condition of option \"{}\"; it needs an own "
                              "option, another one, and a function",
                              method.name, condition.option));
    }
    if (find_own_option(method, condition.other) == nullptr) {
      (void)find_compression_option(condition.other);
    }
  }
  check_own_options(method.defaults, method);
  if (method.paper_defaults) check_own_options(*method.paper_defaults, method);
}

void set_own_option(std::string_view option, CompressionOptions& options, std::string_view value) {
  const OwnOption& row = own_option(find_method(options.method), option);
  options.own[std::string(option)] = parse(row, value);
}

std::string get_own_option(std::string_view option, const CompressionOptions& options) {
  return print(given(options, option).value);
}

void check_own_options(const CompressionOptions& options, const Method& method) {
  for (const auto& [name, value] : options.own) {
    const OwnOption& option = own_option(method, name);
    if (!suits(option, value)) refuse(name, print(value), expected_by(option));
  }
}

bool own_switch(const CompressionOptions& options, std::string_view option) {
  return read<bool>(given(options, option));
}

int own_whole(const CompressionOptions& options, std::string_view option) {
  return read<int>(given(options, option));
}

double own_real(const CompressionOptions& options, std::string_view option) {
  const Given value = given(options, option);
  if (const int* whole = std::get_if<int>(&value.value)) return *whole;
  return read<double>(value);
}

std::optional<double> own_real_if_any(const CompressionOptions& options, std::string_view option) {
  const Given value = given(options, option);
  if (std::holds_alternative<std::string>(value.value)) return std::nullopt;
  if (const int* whole = std::get_if<int>(&value.value)) return *whole;
  return read<double>(value);
}

size_t own_word(const CompressionOptions& options, std::string_view option) {
  const Given value = given(options, option);
  return place_of(read<std::string>(value), value.option.values);
}

}  // namespace restkv
