#include "model/split_name.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <system_error>

namespace restkv {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnding = ".gguf";
constexpr std::string_view kOf = "-of-";
constexpr size_t kDigits = 5;

/// Removes "-00003" from the end of `text`, or what other sign stands before the digits.
std::optional<size_t> take_number(std::string_view& text, std::string_view before) {
  if (text.size() < before.size() + kDigits) return std::nullopt;
  const std::string_view digits = text.substr(text.size() - kDigits);
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  if (!std::ranges::all_of(digits, is_digit)) return std::nullopt;
  size_t number = 0;
  std::from_chars(digits.data(), digits.data() + digits.size(), number);
  text.remove_suffix(kDigits);
  if (!text.ends_with(before)) return std::nullopt;
  text.remove_suffix(before.size());
  return number;
}

}  // namespace

std::optional<SplitName> parse_split_name(std::string_view path) {
  if (!path.ends_with(kEnding)) return std::nullopt;
  path.remove_suffix(kEnding.size());
  const std::optional<size_t> count = take_number(path, kOf);
  const std::optional<size_t> number = count ? take_number(path, "-") : std::nullopt;
  if (!number || *number < 1 || *number > *count) return std::nullopt;
  return SplitName{.stem = std::string(path), .number = *number, .count = *count};
}

std::string split_path(const SplitName& name, size_t number) {
  return fmt::format("{}-{:0{}}{}{:0{}}{}", name.stem, number, kDigits, kOf, name.count, kDigits,
                     kEnding);
}

std::vector<std::string> model_files(const std::string& path) {
  const std::optional<SplitName> name = parse_split_name(path);
  if (!name || name->number != 1) return {path};
  std::vector<std::string> files;
  for (size_t i = 1; i <= name->count; ++i) {
    files.push_back(split_path(*name, i));
    std::error_code ignored;
    if (!fs::exists(files.back(), ignored)) return {path};
  }
  return files;
}

std::string model_file_name(const std::string& path) {
  const std::optional<SplitName> name = parse_split_name(path);
  return name ? fs::path(name->stem).filename().string() : fs::path(path).stem().string();
}

}  // namespace restkv
