#pragma once

#include <string_view>
#include <utility>
#include <vector>

namespace restkv {

/// "xattention:stride=8:threshold=0.9": a name, then options with their values.
struct OptionText {
  std::string_view name;
  std::vector<std::pair<std::string_view, std::string_view>> options;
};

/// Splits `text`, which must outlive the result. Throws `Error` (kInvalidArgument) for an option
/// without "=" and for a repeated one.
OptionText parse_option_text(std::string_view text);

}  // namespace restkv
