#include "eval/metrics/qa_f1.h"

#include <algorithm>
#include <array>
#include <string>
#include <utility>
#include <vector>

#include "eval/metrics/text.h"

namespace restkv::eval {
namespace {

/// F1 of two multisets; sorts them.
template <class Token>
double multiset_f1(std::vector<Token> prediction, std::vector<Token> reference) {
  std::sort(prediction.begin(), prediction.end());
  std::sort(reference.begin(), reference.end());
  std::vector<Token> common;
  std::set_intersection(prediction.begin(), prediction.end(), reference.begin(), reference.end(),
                        std::back_inserter(common));
  if (common.empty()) return 0;
  const auto shared = static_cast<double>(common.size());
  const double precision = shared / static_cast<double>(prediction.size());
  const double recall = shared / static_cast<double>(reference.size());
  return 2 * precision * recall / (precision + recall);
}

std::u32string without_punctuation(std::u32string text, bool (*is_punctuation)(char32_t)) {
  std::erase_if(text, is_punctuation);
  return text;
}

bool is_article(std::u32string_view word) {
  return word == U"a" || word == U"an" || word == U"the";
}

/// Replaces the words a, an, the by a space. A word is a maximal run of word characters, not a part
/// between white space: "the’a" has two articles.
std::u32string without_articles(std::u32string_view text) {
  std::u32string out;
  out.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    size_t end = at;
    while (end < text.size() && text::is_word(text[end])) ++end;
    const std::u32string_view word = text.substr(at, end - at);
    out += is_article(word) ? U" " : word;
    if (end < text.size()) out += text[end];
    at = end + 1;
  }
  return out;
}

std::u32string normalized(std::string_view answer) {
  return without_articles(
      without_punctuation(text::lower(text::decode(answer)), text::is_ascii_punctuation));
}

bool is_chinese_punctuation(char32_t c) {
  // First and last code points of the published list's ranges.
  constexpr std::array<std::pair<char32_t, char32_t>, 15> kRanges = {{
      {0x2013, 0x2014},
      {0x2018, 0x2019},
      {0x201B, 0x201F},
      {0x2026, 0x2027},
      {0x3001, 0x3003},
      {0x300B, 0x3011},
      {0x3014, 0x301F},
      {0x3030, 0x3030},
      {0x303E, 0x303F},
      {0xFE4F, 0xFE4F},
      {0xFF01, 0xFF0D},
      {0xFF0F, 0xFF0F},
      {0xFF1A, 0xFF20},
      {0xFF3B, 0xFF40},
      {0xFF5B, 0xFF64},
  }};
  return text::is_ascii_punctuation(c) ||
         std::any_of(kRanges.begin(), kRanges.end(),
                     [c](const auto& range) { return c >= range.first && c <= range.second; });
}

std::vector<char32_t> chinese_characters(std::string_view answer) {
  std::u32string text =
      without_punctuation(text::lower(text::decode(answer)), is_chinese_punctuation);
  std::erase_if(text, text::is_space);
  return {text.begin(), text.end()};
}

}  // namespace

double qa_f1(std::string_view prediction, std::string_view reference) {
  const std::u32string a = normalized(prediction);
  const std::u32string b = normalized(reference);
  return multiset_f1(text::split(a), text::split(b));
}

bool exact_match(std::string_view prediction, std::string_view reference) {
  const std::u32string a = normalized(prediction);
  const std::u32string b = normalized(reference);
  return text::split(a) == text::split(b);
}

double qa_f1_chinese(std::string_view prediction, std::string_view reference) {
  return multiset_f1(chinese_characters(prediction), chinese_characters(reference));
}

}  // namespace restkv::eval
