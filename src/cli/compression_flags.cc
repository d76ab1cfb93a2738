#include "cli/compression_flags.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/options.h"
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
    // `full` may be given a budget: it is what the others are compared with.
    const bool read = option == "budget" || std::find(method.options.begin(), method.options.end(),
                                                      option) != method.options.end();
    if (!read) {
      std::string read_flags = "--budget";
      for (const std::string_view other : method.options) read_flags += ", " + flag_name(other);
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} has no effect on method {}, which reads {}; leave it out or "
                              "choose another method",
                              flag_name(option), name, read_flags));
    }
    row.set(options, value);
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
    if (name == "budget") flag->default_str(option.get({}));  // that of every method
    if (option.values == "true|false") flag->expected(0, 1);  // a bare flag means true
  }
}

CompressionOptions CompressionFlags::resolve() const {
  CompressionOptions options = with_options(method_, values_);
  validate(options);
  return options;
}

std::optional<int> CompressionFlags::budget() const {
  const auto given = values_.find("budget");
  if (given == values_.end()) return std::nullopt;
  CompressionOptions options;
  find_compression_option("budget").set(options, given->second);
  return options.budget;
}

CompressionOptions parse_compression(std::string_view text) {
  const std::string_view method = text.substr(0, text.find(':'));
  std::map<std::string, std::string> values;
  for (size_t begin = method.size(); begin < text.size();) {
    const size_t end = std::min(text.find(':', begin + 1), text.size());
    const std::string_view part = text.substr(begin + 1, end - begin - 1);
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos) {
      throw Error(
          ErrorCode::kInvalidArgument,
          fmt::format(R"("{}" in "{}" has no value; expected method:option=value)", part, text));
    }
    values[std::string(part.substr(0, equals))] = part.substr(equals + 1);
    begin = end;
  }
  return with_options(std::string(method), values);
}

}  // namespace restkv::cli
