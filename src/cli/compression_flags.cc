#include "cli/compression_flags.h"

#include <fmt/format.h>

#include <algorithm>

#include "restkv/compression_options.h"
#include "restkv/error.h"

namespace restkv::cli {
namespace {

std::string flag_name(std::string_view option) {
  std::string flag = "--" + std::string(option);
  std::replace(flag.begin(), flag.end(), '_', '-');
  return flag;
}

}  // namespace

void CompressionFlags::declare(CLI::App& app) {
  constexpr const char* kGroup = "Compression (restkv methods shows which method reads what)";
  app.add_option("--method", method_, "compression method")->capture_default_str()->group(kGroup);
  for (const CompressionOption& option : compression_options()) {
    const std::string name(option.name);
    auto* flag = app.add_option_function<std::string>(
        flag_name(name),
        [this, name](const std::string& value) { values_[name] = value.empty() ? "true" : value; },
        std::string(option.help));
    flag->type_name(std::string(option.values))->group(kGroup);
    if (option.values == "true|false") flag->expected(0, 1);  // a bare flag means true
  }
}

CompressionOptions CompressionFlags::resolve() const {
  const Method& method = find_method(method_);
  CompressionOptions options = method.defaults;
  for (const auto& [name, value] : values_) {
    // `full` may be given a budget: it is what the others are compared with.
    const bool read = name == "budget" || std::find(method.options.begin(), method.options.end(),
                                                    name) != method.options.end();
    if (!read) {
      std::string read_flags = "--budget";
      for (const std::string_view other : method.options) read_flags += ", " + flag_name(other);
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} has no effect on method {}, which reads {}; leave it out or "
                              "choose another method",
                              flag_name(name), method_, read_flags));
    }
    find_compression_option(name).set(options, value);
  }
  validate(options);
  return options;
}

}  // namespace restkv::cli
