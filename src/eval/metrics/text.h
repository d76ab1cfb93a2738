#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

/// Text with the rules of the metrics' published programs: strings of Unicode code points with
/// Python's rules for white space, digits, words and case. Metrics decode UTF-8 once and work on
/// code points. All functions accept any bytes.
namespace restkv::eval::text {

/// Code points of UTF-8 text. Each maximal invalid piece of bytes becomes one U+FFFD.
std::u32string decode(std::string_view utf8);
std::string encode(std::u32string_view text);

/// White space of `str.split()`, `str.strip()` and `\s`.
bool is_space(char32_t c);
/// A decimal digit of any script: `\d` (general category Nd).
bool is_digit(char32_t c);
/// A letter, anything with a numeric value, or "_": `\w`.
bool is_word(char32_t c);
/// One of the 32 ASCII punctuation characters.
bool is_ascii_punctuation(char32_t c);
/// Value 0 to 9 of a character that `is_digit`.
int digit_value(char32_t c);

/// Full Unicode case mappings: "İ" becomes two code points in lower case, "ß" in upper case.
std::u32string lower(std::u32string_view text);
std::u32string upper(std::u32string_view text);

/// Whether UTF-8 text is empty or white space only.
bool is_blank(std::string_view utf8);

/// The text without white space, or without the character `c`, at both ends or at one.
std::u32string_view strip(std::u32string_view text);
std::u32string_view strip_left(std::u32string_view text, char32_t c);

/// Parts between runs of white space; none of them is empty. The views point into `text`.
std::vector<std::u32string_view> split(std::u32string_view text);
/// Parts between separators: one more than there are separators.
std::vector<std::u32string_view> split(std::u32string_view text, char32_t separator);
/// The maximal runs of characters for which `belongs` holds.
std::vector<std::u32string_view> runs(std::u32string_view text, bool (*belongs)(char32_t));
std::u32string join(const std::vector<std::u32string_view>& parts, std::u32string_view between);

/// Replaces every occurrence of `from`, left to right and not overlapping, by a space.
std::u32string blank_out(std::u32string_view text, std::u32string_view from);
/// Replaces each run of the character U+0020 by one.
std::u32string collapse_spaces(std::u32string_view text);

inline bool contains(std::u32string_view text, std::u32string_view part) {
  return text.find(part) != std::u32string_view::npos;
}

/// The exact binary value rounded to `decimals` places, ties to even: Python's round(x, decimals).
double round_to(double value, int decimals);

}  // namespace restkv::eval::text
