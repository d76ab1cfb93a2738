#include "server/openai/library_reason.h"

#include <cstddef>
#include <string_view>

#include "base/text.h"

namespace restkv::server {

std::string short_reason(const std::exception& e) {
  constexpr size_t kMostBytes = 500;
  std::string reason = replace_invalid_utf8(std::string_view(e.what()).substr(0, kMostBytes));
  while (!reason.empty() && reason.back() == '\n') reason.pop_back();
  return reason;
}

}  // namespace restkv::server
