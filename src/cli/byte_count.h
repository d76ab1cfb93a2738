#pragma once

#include <cstddef>
#include <string>

namespace restkv::cli {

/// "8GiB", "512MiB", "8G" (the same as 8GiB), "1073741824". Throws `Error` (kInvalidArgument)
/// naming `option`.
size_t parse_byte_count(const std::string& text, const std::string& option);
/// "10", "10s", "500ms", as milliseconds. Throws as above.
size_t parse_duration(const std::string& text, const std::string& option);

}  // namespace restkv::cli
