#include "cli/compression_flags.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/option_text.h"
#include "cli/process.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

std::string flag_name(std::string_view option) {
  std::string flag = "--" + std::string(option);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

/// Not an option of any method but what the options are before any is given.
constexpr const char* kPreset = "preset";
constexpr const char* kBudget = "budget";

CompressionOptions say_notices(GivenCompression given) {
  for (const std::string& text : given.notices) notice(text);
  return std::move(given.options);
}

}  // namespace

void CompressionFlags::declare(ArgumentParser& parser) {
  parser.begin_group("Compression (restkv methods shows which method reads what)");
  parser.add("--method", method_, "compression method", "NAME");
  const auto store = [this](std::string_view name) {
    return [this, name = std::string(name)](const std::string& value) { values_[name] = value; };
  };
  parser.add_callback(
      fmt::format("--{}", kPreset), store(kPreset),
      "what options are unless they are given: default, or paper (the method's authors' values)",
      "default|paper");
  for (const CompressionOption& option : compression_options()) {
    const bool share = option.name == kBudget && shares_;
    Option& flag = parser.add_callback(flag_name(option.name), store(option.name), option.help,
                                       share ? "N|P%" : option.values);
    if (option.name == kBudget) flag.default_text(option.get({}));  // that of every method
    if (option.values == "true|false") flag.implicit_value("true");
  }
}

CompressionOptions CompressionFlags::resolve() const {
  auto values = values_;
  if (share()) {
    if (!shares_) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("--budget is {}, but there is no prompt to take a share of; give a "
                              "number of tokens",
                              values_.at(kBudget)));
    }
    values.erase(kBudget);
  }
  CompressionOptions options = say_notices(with_options(method_, values, flag_name));
  validate(options);
  return options;
}

std::optional<Budget> CompressionFlags::share() const {
  const auto given = values_.find(kBudget);
  if (given == values_.end() || !given->second.ends_with('%')) return std::nullopt;
  return parse_budget(given->second);
}

std::optional<int> CompressionFlags::budget() const {
  const auto given = values_.find(kBudget);
  if (given == values_.end() || share()) return std::nullopt;
  CompressionOptions options;
  find_compression_option(kBudget).set(options, given->second);
  return options.budget;
}

std::vector<std::pair<std::string, std::string>> CompressionFlags::files() const {
  std::vector<std::pair<std::string, std::string>> files;
  for (const auto& [option, value] : values_) {
    if (option == kPreset || value == "none") continue;
    if (find_compression_option(option).values == "FILE") {
      files.emplace_back(flag_name(option), value);
    }
  }
  return files;
}

CompressionOptions parse_method(std::string_view text) {
  for (const auto& [option, value] : parse_option_text(text).options) {
    if (option != kBudget) continue;
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("\"{}\" gives a budget, which has a flag of its own; leave it out of the "
                            "method",
                            text));
  }
  return say_notices(parse_compression(text, flag_name));
}

void require_use_for_budget(const std::vector<std::string>& methods) {
  const auto is_full = [](std::string_view text) { return parse_option_text(text).name == "full"; };
  if (!std::ranges::all_of(methods, is_full)) return;
  throw Error(ErrorCode::kInvalidArgument,
              "--budget has no effect on method full, which keeps everything");
}

}  // namespace restkv::cli
