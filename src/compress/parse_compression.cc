#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "base/option_text.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"

namespace restkv {
namespace {

CompressionOptions preset_options(std::string_view method, std::string_view preset) {
  if (preset == "default") return default_options(method);
  if (preset == "paper") return paper_options(method);
  throw Error(ErrorCode::kInvalidArgument,
              fmt::format("preset is \"{}\"; expected default or paper", preset));
}

bool reads(const Method& method, std::string_view option) {
  if (option == "budget") return method.name != "full";
  return std::ranges::find(method.options, option) != method.options.end();
}

}  // namespace

GivenCompression with_options(std::string_view method, const OptionTexts& values,
                              OptionSpelling spell) {
  const Method& row = find_method(method);
  const bool full = row.name == "full";
  const auto preset = values.find("preset");
  GivenCompression given;
  given.options = preset_options(method, preset == values.end() ? "default" : preset->second);
  for (const auto& [option, value] : values) {
    if (option == "preset") continue;
    const CompressionOption& known = find_compression_option(option);
    if (!reads(row, option)) {
      std::string read = spell("budget");
      for (const std::string_view other : row.options) read += ", " + spell(other);
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} has no effect on method {}, which {}; leave it out or choose "
                              "another method",
                              spell(option), method, full ? "keeps everything" : "reads " + read));
    }
    known.set(given.options, value);
  }
  for (const auto& [option, value] : values) {
    const std::string_view other = overridden_by(given.options, option);
    if (other.empty()) continue;
    given.notices.push_back(fmt::format("{} has no effect beside {} {}", spell(option),
                                        spell(other),
                                        find_compression_option(other).get(given.options)));
  }
  if (preset != values.end() && full) {
    given.notices.push_back(spell("preset") +
                            " has no effect on method full, which has no other options");
  }
  return given;
}

GivenCompression parse_compression(std::string_view text, OptionSpelling spell) {
  const OptionText parts = parse_option_text(text);
  OptionTexts values;
  for (const auto& [option, value] : parts.options) {
    values[std::string(option)] = value;
  }
  return with_options(parts.name, values, spell);
}

}  // namespace restkv
