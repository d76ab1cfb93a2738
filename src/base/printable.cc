#include "base/printable.h"

// Macros only: nothing of ICU is linked.
#include <unicode/utf8.h>

#include <cstddef>
#include <cstdint>

namespace restkv {
namespace {

bool is_command(UChar32 c) {
  const auto within = [c](UChar32 first, UChar32 last) { return c >= first && c <= last; };
  return (c < ' ' && c != '\n' && c != '\t') || within(0x7F, 0x9F) || within(0x202A, 0x202E) ||
         within(0x2066, 0x2069);
}

}  // namespace

std::string printable(std::string_view text, std::string_view replacement) {
  const auto* bytes = reinterpret_cast<const uint8_t*>(text.data());
  std::string safe;
  safe.reserve(text.size());
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    UChar32 character = 0;
    U8_NEXT(bytes, i, text.size(), character);
    if (character < 0) i = begin + 1;  // no character begins here
    const bool ends_line = text.substr(begin, 2) == "\r\n";
    safe += character < 0 || (is_command(character) && !ends_line) ? replacement
                                                                   : text.substr(begin, i - begin);
  }
  return safe;
}

}  // namespace restkv
