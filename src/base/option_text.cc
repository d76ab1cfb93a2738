#include "base/option_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "restkv/error.h"

namespace restkv {

OptionText parse_option_text(std::string_view text) {
  OptionText parts{.name = text.substr(0, text.find(':')), .options = {}};
  const auto refuse = [&](std::string_view part, std::string_view reason) {
    throw Error(ErrorCode::kInvalidArgument, fmt::format(R"("{}" in "{}" {})", part, text, reason));
  };
  for (size_t begin = parts.name.size(); begin < text.size();) {
    const size_t end = std::min(text.find(':', begin + 1), text.size());
    const std::string_view part = text.substr(begin + 1, end - begin - 1);
    const size_t equals = part.find('=');
    if (equals == std::string_view::npos) refuse(part, "has no value; expected name:option=value");
    const std::string_view option = part.substr(0, equals);
    for (const auto& [other, value] : parts.options) {
      if (other == option) refuse(option, "is repeated; give it once");
    }
    parts.options.emplace_back(option, part.substr(equals + 1));
    begin = end;
  }
  return parts;
}

}  // namespace restkv
