#pragma once

#include <string>
#include <string_view>

namespace restkv {

/// Standard error without the line about the end of an answer, which tests cut short to save time.
inline std::string beside_the_cut(const std::string& err) {
  constexpr std::string_view kCut = "restkv: stopped at --max-tokens ";
  const size_t begin = err.find(kCut);
  if (begin == std::string::npos) return err;
  const size_t end = err.find('\n', begin);
  return err.substr(0, begin) + (end == std::string::npos ? "" : err.substr(end + 1));
}

}  // namespace restkv
