#include "model/metadata.h"

#include <fmt/format.h>

#include <cmath>
#include <cstdint>
#include <limits>

#include "restkv/error.h"

namespace restkv {
namespace {

/// End of messages.
constexpr std::string_view kRemedy = "Convert the model again, or correct the key";

/// The number as in the file: a float32 with its significant digits, an integer with all digits.
std::string text_of(double value) {
  constexpr double kExact = uint64_t{1} << 53U;
  if (value == std::floor(value) && std::abs(value) < kExact) {
    return fmt::format("{}", static_cast<int64_t>(value));
  }
  if (std::abs(value) > std::numeric_limits<float>::max()) return fmt::format("{}", value);
  return fmt::format("{}", static_cast<float>(value));
}

}  // namespace

Metadata::Metadata(const GgufFile& file, std::string_view architecture)
    : file_(file), architecture_(architecture) {
  for (const KeyRule& rule : key_rules()) {
    if (!rule.key.starts_with('.')) continue;
    if (rule.use == KeyUse::kRead && rule.least < rule.most) check_limits(rule);
    if (rule.use == KeyUse::kFixed) check_fixed(rule);
  }
}

std::string Metadata::key(std::string_view suffix) const {
  return architecture_ + std::string(suffix);
}

bool Metadata::has(std::string_view suffix) const {
  return file_.index().values.contains(key(suffix));
}

void Metadata::refuse(std::string_view suffix, const std::string& value,
                      const std::string& expected) const {
  file_.fail(fmt::format("'{}' is {}; expected {}. {}", key(suffix), value, expected, kRemedy));
}

void Metadata::refuse_as_unsupported(std::string_view suffix, const std::string& value,
                                     const std::string& expected, std::string_view what) const {
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: '{}' is {}; expected {}: {} cannot be computed. Take another model",
                          file_.path(), key(suffix), value, expected, what));
}

void Metadata::check_limits(const KeyRule& rule) const {
  const auto values = file_.find_numbers(key(rule.key));
  if (!values) return;
  for (const double value : *values) {
    if ((value >= rule.least && value <= rule.most) || (value == 0 && rule.or_zero)) continue;
    refuse(rule.key, text_of(value),
           fmt::format("{} to {}{}", text_of(rule.least), text_of(rule.most),
                       rule.or_zero ? ", or 0 for none" : ""));
  }
}

void Metadata::check_fixed(const KeyRule& rule) const {
  const auto values = file_.find_numbers(key(rule.key));
  if (!values) return;
  for (const double value : *values) {
    if (value == rule.least || value == rule.most) continue;
    std::string expected = text_of(rule.least);
    if (rule.most != rule.least) expected += " or " + text_of(rule.most);
    refuse_as_unsupported(rule.key, text_of(value), expected, rule.note);
  }
}

std::optional<size_t> Metadata::find_integer(std::string_view suffix) const {
  const auto value = file_.find_integer(key(suffix));
  return value ? std::optional(static_cast<size_t>(*value)) : std::nullopt;
}

template <class Value>
Value Metadata::required(std::optional<Value> value, std::string_view suffix) const {
  if (!value) file_.fail(fmt::format("has no '{}'. {}", key(suffix), kRemedy));
  return *value;
}

size_t Metadata::integer(std::string_view suffix) const {
  return required(find_integer(suffix), suffix);
}

size_t Metadata::integer(std::string_view suffix, size_t fallback) const {
  return find_integer(suffix).value_or(fallback);
}

std::optional<std::vector<double>> Metadata::find_list(std::string_view suffix,
                                                       size_t layers) const {
  if (!file_.is_array(key(suffix))) return std::nullopt;
  auto values = file_.find_numbers(key(suffix));
  if (values->size() != layers) {
    file_.fail(fmt::format("'{}' has {} entries for {} layers. {}", key(suffix), values->size(),
                           layers, kRemedy));
  }
  return values;
}

std::optional<size_t> Metadata::find_for_all_layers(std::string_view suffix, size_t layers) const {
  const auto list = find_list(suffix, layers);
  if (!list) return find_integer(suffix);
  const std::vector<double>& values = *list;
  for (const double value : values) {
    if (value != std::floor(value)) refuse(suffix, text_of(value), "a whole number");
    if (value != values.front()) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{}: '{}' is {} in one layer and {} in another; layers of different "
                              "sizes are not supported",
                              file_.path(), key(suffix), values.front(), value));
    }
  }
  return static_cast<size_t>(values.front());
}

std::optional<double> Metadata::find_number(std::string_view suffix) const {
  return file_.find_number(key(suffix));
}

double Metadata::number(std::string_view suffix) const {
  return required(find_number(suffix), suffix);
}

double Metadata::number(std::string_view suffix, double fallback) const {
  return find_number(suffix).value_or(fallback);
}

std::optional<bool> Metadata::find_flag(std::string_view suffix) const {
  const auto values = file_.find_numbers(key(suffix));
  if (!values || values->empty()) return std::nullopt;
  return values->front() != 0;
}

double Metadata::number_unless_zero(std::string_view suffix, double fallback) const {
  const double value = number(suffix, 0);
  return value == 0 ? fallback : value;
}

}  // namespace restkv
