#include "eval/metrics/text.h"

#include <fmt/format.h>
#include <unicode/locid.h>
#include <unicode/uchar.h>
#include <unicode/unistr.h>
#include <unicode/utf8.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>

namespace restkv::eval::text {
namespace {

icu::UnicodeString to_icu(std::u32string_view text) {
  icu::UnicodeString out(static_cast<int32_t>(text.size()), UChar32{0}, 0);
  for (const char32_t c : text) out.append(static_cast<UChar32>(c));
  return out;
}

std::u32string from_icu(const icu::UnicodeString& text) {
  std::u32string out;
  out.reserve(static_cast<size_t>(text.length()));
  for (int32_t i = 0; i < text.length(); i = text.moveIndex32(i, 1)) {
    out += static_cast<char32_t>(text.char32At(i));
  }
  return out;
}

}  // namespace

std::u32string decode(std::string_view utf8) {
  std::u32string out;
  out.reserve(utf8.size());
  const auto* bytes = reinterpret_cast<const uint8_t*>(utf8.data());
  for (size_t i = 0; i < utf8.size();) {
    UChar32 c = 0;
    U8_NEXT_OR_FFFD(bytes, i, utf8.size(), c);
    out += static_cast<char32_t>(c);
  }
  return out;
}

std::string encode(std::u32string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char32_t c : text) {
    // Surrogates and numbers above U+10FFFF have no UTF-8 form.
    const bool encodable = c < 0xD800 || (c > 0xDFFF && c <= 0x10FFFF);
    char bytes[U8_MAX_LENGTH];
    size_t length = 0;
    U8_APPEND_UNSAFE(bytes, length, encodable ? c : U'\uFFFD');
    out.append(bytes, length);
  }
  return out;
}

bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 ||
         c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F ||
         c == 0x205F || c == 0x3000;
}

bool is_digit(char32_t c) {
  if (c < 0x80) return c >= '0' && c <= '9';
  return u_isdigit(static_cast<UChar32>(c)) != 0;
}

bool is_word(char32_t c) {
  const auto code = static_cast<UChar32>(c);
  return c == '_' || (U_GET_GC_MASK(code) & U_GC_L_MASK) != 0 ||
         u_getIntPropertyValue(code, UCHAR_NUMERIC_TYPE) != U_NT_NONE;
}

bool is_ascii_punctuation(char32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

int digit_value(char32_t c) { return u_charDigitValue(static_cast<UChar32>(c)); }

std::u32string lower(std::u32string_view text) {
  return from_icu(to_icu(text).toLower(icu::Locale::getRoot()));
}

std::u32string upper(std::u32string_view text) {
  return from_icu(to_icu(text).toUpper(icu::Locale::getRoot()));
}

bool is_blank(std::string_view utf8) { return std::ranges::all_of(decode(utf8), is_space); }

std::u32string_view strip(std::u32string_view text) {
  while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
  return text;
}

std::u32string_view strip_left(std::u32string_view text, char32_t c) {
  while (!text.empty() && text.front() == c) text.remove_prefix(1);
  return text;
}

std::vector<std::u32string_view> split(std::u32string_view text) {
  return runs(text, [](char32_t c) { return !is_space(c); });
}

std::vector<std::u32string_view> split(std::u32string_view text, char32_t separator) {
  std::vector<std::u32string_view> parts;
  for (;;) {
    const size_t end = text.find(separator);
    parts.push_back(text.substr(0, end));
    if (end == std::u32string_view::npos) return parts;
    text.remove_prefix(end + 1);
  }
}

std::vector<std::u32string_view> runs(std::u32string_view text, bool (*belongs)(char32_t)) {
  std::vector<std::u32string_view> found;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    while (end < text.size() && belongs(text[end])) ++end;
    if (end > begin) found.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return found;
}

std::u32string join(const std::vector<std::u32string_view>& parts, std::u32string_view between) {
  std::u32string out;
  for (size_t i = 0; i < parts.size(); ++i) {
    if (i != 0) out += between;
    out += parts[i];
  }
  return out;
}

std::u32string blank_out(std::u32string_view text, std::u32string_view from) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    if (!from.empty() && text.substr(at).starts_with(from)) {
      out += U' ';
      at += from.size();
    } else {
      out += text[at++];
    }
  }
  return out;
}

std::u32string collapse_spaces(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (const char32_t c : text) {
    if (c != U' ' || out.empty() || out.back() != U' ') out += c;
  }
  return out;
}

double round_to(double value, int decimals) {
  // Formatting rounds the exact value correctly, which scaling by a power of ten would not.
  return std::strtod(fmt::format("{:.{}f}", value, decimals).c_str(), nullptr);
}

}  // namespace restkv::eval::text
