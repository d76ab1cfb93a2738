#include "cli/numbered_lines.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/text.h"
#include "restkv/error.h"

namespace restkv::cli {

void for_each_line(std::string_view text, const std::string& path,
                   const std::function<void(std::string_view line, size_t number)>& read) {
  size_t number = 0;
  for (std::string_view rest = text; !rest.empty();) {
    const size_t end = std::min(rest.find('\n'), rest.size());
    const std::string_view line = trimmed(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
    ++number;
    if (line.empty()) continue;
    try {
      read(line, number);
    } catch (const Error& e) {
      throw Error(ErrorCode::kInput, fmt::format("{}:{}: {}", path, number, e.what()));
    }
  }
}

}  // namespace restkv::cli
