#include "cli/compression_flags.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/option_text.h"
#include "cli/options.h"
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

CompressionOptions preset_options(const std::string& method, std::string_view preset) {
  if (preset == "default") return default_options(method);
  if (preset == "paper") return paper_options(method);
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("preset is \"{}\"; expected default or paper", preset));
}

/// The preset of a method with some options (by name) changed. Throws `Error` (kInvalidArgument)
/// for an option that the method would ignore.
CompressionOptions with_options(const std::string& name,
                                const std::map<std::string, std::string>& values) {
  const Method& method = find_method(name);
  const auto preset = values.find(kPreset);
  CompressionOptions options =
      preset_options(name, preset == values.end() ? "default" : preset->second);
  for (const auto& [option, value] : values) {
    if (option == kPreset) continue;
    const CompressionOption& row = find_compression_option(option);
    const bool has_budget = option == kBudget && name != "full";
    const bool read = has_budget || std::find(method.options.begin(), method.options.end(),
                                              option) != method.options.end();
    if (!read) {
      std::string read_flags = "--budget";
      for (const std::string_view other : method.options) read_flags += ", " + flag_name(other);
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} has no effect on method {}, which {}; leave it out or choose "
                              "another method",
                              flag_name(option), name,
                              name == "full" ? "keeps everything" : "reads " + read_flags));
    }
    row.set(options, value);
  }
  for (const auto& [option, value] : values) {
    const std::string_view other = overridden_by(options, option);
    if (other.empty()) continue;
    notice(fmt::format("{} has no effect beside {} {}", flag_name(option), flag_name(other),
                       find_compression_option(other).get(options)));
  }
  if (preset != values.end() && name == "full") {
    notice("--preset has no effect on method full, which has no other options");
  }
  return options;
}

}  // namespace

void CompressionFlags::declare(CLI::App& app) {
  constexpr const char* kGroup = "Compression (restkv methods shows which method reads what)";
  add_value(app, "--method", method_, "compression method", "NAME")->group(kGroup);
  app.add_option_function<std::string>(
         std::string("--") + kPreset,
         [this](const std::string& value) { values_[kPreset] = value; },
         "what options are unless they are given: default, or paper (the method's authors' values)")
      ->type_name("default|paper")
      ->group(kGroup);
  for (const CompressionOption& option : compression_options()) {
    const std::string name(option.name);
    auto* flag = app.add_option_function<std::string>(
        flag_name(name),
        [this, name](const std::string& value) { values_[name] = value.empty() ? "true" : value; },
        std::string(option.help));
    flag->type_name(std::string(option.values))->group(kGroup);
    if (name == kBudget) flag->default_str(option.get({}));   // that of every method
    if (option.values == "true|false") flag->expected(0, 1);  // a bare flag means true
  }
}

CompressionOptions CompressionFlags::resolve() const {
  CompressionOptions options = with_options(method_, values_);
  validate(options);
  return options;
}

std::optional<int> CompressionFlags::budget() const {
  const auto given = values_.find(kBudget);
  if (given == values_.end()) return std::nullopt;
  CompressionOptions options;
  find_compression_option(kBudget).set(options, given->second);
  return options.budget;
}

std::string CompressionFlags::profile() const {
  const auto given = values_.find("profile");
  return given == values_.end() || given->second == "none" ? "" : given->second;
}

CompressionOptions parse_compression(std::string_view text) {
  const OptionText parts = parse_option_text(text);
  std::map<std::string, std::string> values;
  for (const auto& [option, value] : parts.options) {
    if (option == kBudget) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("\"{}\" gives a budget, which all methods here have from --budget or "
                              "--budgets; leave it out",
                              text));
    }
    values[std::string(option)] = value;
  }
  return with_options(std::string(parts.name), values);
}

}  // namespace restkv::cli
