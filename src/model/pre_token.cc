#include "model/pre_token.h"

#include <algorithm>

namespace restkv {
namespace {

bool is_ascii_space(unsigned char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }

bool may_be_letter(unsigned char c) {
  return c >= 0x80 || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/// Whether a character that begins with these two bytes may be white space: U+0085, U+00A0, U+1680,
/// U+2000 and on, U+3000.
bool may_be_wide_space(unsigned char first, unsigned char second) {
  return first == 0xC2 || (first == 0xE1 && second == 0x9A) ||
         (first == 0xE2 && (second == 0x80 || second == 0x81)) || (first == 0xE3 && second == 0x80);
}

}  // namespace

size_t longest_pre_token(std::string_view text) {
  const auto byte = [&](size_t i) {
    return i < text.size() ? static_cast<unsigned char>(text[i]) : static_cast<unsigned char>(0);
  };
  size_t longest = 0;
  size_t characters = 0;
  size_t spaces = 0;     // just before this character
  bool goes_on = false;  // over one single space
  for (size_t i = 0; i < text.size(); ++i) {
    const unsigned char c = byte(i);
    if ((c & 0xC0U) == 0x80U) continue;  // within a character
    if (is_ascii_space(c)) {
      goes_on = spaces == 0 && c == ' ' && i > 0 && may_be_letter(byte(i - 1));
      ++spaces;
    } else {
      // After punctuation, one expression matches line ends and slashes in any order.
      if (spaces > 0 && !goes_on && c != '/' && !may_be_wide_space(c, byte(i + 1))) {
        longest = std::max(longest, characters);
        characters = 1;  // an expression may begin with one space or other character
      }
      spaces = 0;
    }
    ++characters;
  }
  return std::max(longest, characters);
}

}  // namespace restkv
