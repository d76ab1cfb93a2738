#include "eval/metrics/porter.h"

#include <algorithm>
#include <array>
#include <cstddef>
#include <span>
#include <utility>

namespace restkv::eval {
namespace {

bool is_vowel_letter(char c) { return c == 'a' || c == 'e' || c == 'i' || c == 'o' || c == 'u'; }

/// Whether the character at `at` counts as a consonant: "y" does unless it follows one.
bool is_consonant(std::string_view word, size_t at) {
  size_t ys = 0;
  while (at > 0 && word[at] == 'y') {
    --at;
    ++ys;
  }
  return is_vowel_letter(word[at]) == (ys % 2 == 1);
}

/// Porter's m: how often a consonant follows a vowel.
size_t measure(std::string_view stem) {
  size_t count = 0;
  bool after_vowel = false;
  for (size_t i = 0; i < stem.size(); ++i) {
    const bool consonant = stem[i] == 'y' ? i == 0 || after_vowel : !is_vowel_letter(stem[i]);
    count += after_vowel && consonant ? 1 : 0;
    after_vowel = !consonant;
  }
  return count;
}

bool contains_vowel(std::string_view stem) {
  // Where there is no vowel letter, the first "y" after the beginning follows a consonant.
  return std::any_of(stem.begin(), stem.end(), is_vowel_letter) ||
         stem.find('y', 1) != std::string_view::npos;
}

bool ends_in_double_consonant(std::string_view word) {
  const size_t n = word.size();
  return n >= 2 && word[n - 1] == word[n - 2] && is_consonant(word, n - 1);
}

/// Consonant, vowel, consonant other than w, x, y; or just vowel, consonant (an extension).
bool ends_cvc(std::string_view word) {
  const size_t n = word.size();
  if (n == 2) return !is_consonant(word, 0) && is_consonant(word, 1);
  return n >= 3 && is_consonant(word, n - 3) && !is_consonant(word, n - 2) &&
         is_consonant(word, n - 1) && word[n - 1] != 'w' && word[n - 1] != 'x' &&
         word[n - 1] != 'y';
}

std::string_view without(std::string_view word, std::string_view suffix) {
  return word.substr(0, word.size() - suffix.size());
}

struct Rule {
  std::string_view suffix;
  std::string_view replacement;
};

/// The first rule whose suffix the word has decides, applied or not.
template <class Condition>
std::string replace_suffix(std::string word, std::span<const Rule> rules, Condition applies) {
  for (const Rule& rule : rules) {
    if (!word.ends_with(rule.suffix)) continue;
    const std::string_view stem = without(word, rule.suffix);
    if (applies(rule, stem)) return std::string(stem).append(rule.replacement);
    return word;
  }
  return word;
}

// --- The steps, numbered as in the paper ---------------------------------------------------------

std::string plurals_1a(std::string word) {
  if (word.size() == 4 && word.ends_with("ies")) return word.substr(0, 3);  // dies: die
  static constexpr std::array<Rule, 4> kRules = {
      {{"sses", "ss"}, {"ies", "i"}, {"ss", "ss"}, {"s", ""}}};
  return replace_suffix(std::move(word), kRules,
                        [](const Rule&, std::string_view) { return true; });
}

/// Restores an ending for the next steps after -ed or -ing was removed.
std::string restore_ending_1b(std::string_view stem) {
  if (stem.ends_with("at") || stem.ends_with("bl") || stem.ends_with("iz")) {
    return std::string(stem) + "e";
  }
  if (ends_in_double_consonant(stem)) {
    const char last = stem.back();
    if (last == 'l' || last == 's' || last == 'z') return std::string(stem);
    return std::string(stem.substr(0, stem.size() - 1));
  }
  if (measure(stem) == 1 && ends_cvc(stem)) return std::string(stem) + "e";
  return std::string(stem);
}

std::string past_and_ing_1b(std::string word) {
  if (word.ends_with("ied")) return word.substr(0, word.size() - (word.size() == 4 ? 1 : 2));
  if (word.ends_with("eed")) {
    return measure(without(word, "eed")) > 0 ? word.substr(0, word.size() - 1) : word;
  }
  for (const std::string_view suffix : {"ed", "ing"}) {
    if (!word.ends_with(suffix)) continue;
    const std::string_view stem = without(word, suffix);
    if (contains_vowel(stem)) return restore_ending_1b(stem);
  }
  return word;
}

std::string y_to_i_1c(std::string word) {
  const size_t n = word.size();
  if (n > 2 && word.back() == 'y' && is_consonant(word, n - 2)) word.back() = 'i';
  return word;
}

std::string double_suffixes_2(std::string word) {
  static constexpr std::array<Rule, 22> kRules = {
      {{"ational", "ate"}, {"tional", "tion"}, {"enci", "ence"},   {"anci", "ance"},
       {"izer", "ize"},    {"bli", "ble"},     {"alli", "al"},     {"entli", "ent"},
       {"eli", "e"},       {"ousli", "ous"},   {"ization", "ize"}, {"ation", "ate"},
       {"ator", "ate"},    {"alism", "al"},    {"iveness", "ive"}, {"fulness", "ful"},
       {"ousness", "ous"}, {"aliti", "al"},    {"iviti", "ive"},   {"biliti", "ble"},
       {"fulli", "ful"},   {"logi", "log"}}};
  // -alli is removed first, and the rest goes through this step again.
  while (word.ends_with("alli") && measure(without(word, "alli")) > 0) {
    word.resize(word.size() - 2);
  }
  return replace_suffix(std::move(word), kRules, [](const Rule& rule, std::string_view stem) {
    // The l of -logi counts as part of the stem, so that "geo" is long enough.
    return rule.suffix == "logi" ? measure(std::string(stem) + "l") > 0 : measure(stem) > 0;
  });
}

std::string suffixes_3(std::string word) {
  static constexpr std::array<Rule, 7> kRules = {{{"icate", "ic"},
                                                  {"ative", ""},
                                                  {"alize", "al"},
                                                  {"iciti", "ic"},
                                                  {"ical", "ic"},
                                                  {"ful", ""},
                                                  {"ness", ""}}};
  return replace_suffix(std::move(word), kRules,
                        [](const Rule&, std::string_view stem) { return measure(stem) > 0; });
}

std::string suffixes_4(std::string word) {
  static constexpr std::array<Rule, 19> kRules = {{{"al", ""},
                                                   {"ance", ""},
                                                   {"ence", ""},
                                                   {"er", ""},
                                                   {"ic", ""},
                                                   {"able", ""},
                                                   {"ible", ""},
                                                   {"ant", ""},
                                                   {"ement", ""},
                                                   {"ment", ""},
                                                   {"ent", ""},
                                                   {"ion", ""},
                                                   {"ou", ""},
                                                   {"ism", ""},
                                                   {"ate", ""},
                                                   {"iti", ""},
                                                   {"ous", ""},
                                                   {"ive", ""},
                                                   {"ize", ""}}};
  return replace_suffix(std::move(word), kRules, [](const Rule& rule, std::string_view stem) {
    return measure(stem) > 1 &&
           (rule.suffix != "ion" || stem.ends_with('s') || stem.ends_with('t'));
  });
}

std::string final_e_5a(std::string word) {
  if (!word.ends_with('e')) return word;
  const std::string_view stem = without(word, "e");
  const size_t m = measure(stem);
  return m > 1 || (m == 1 && !ends_cvc(stem)) ? std::string(stem) : word;
}

std::string final_l_5b(std::string word) {
  if (word.ends_with("ll") && measure(without(word, "l")) > 1) word.pop_back();
  return word;
}

std::string_view irregular_stem(std::string_view word) {
  struct Irregular {
    std::string_view word;
    std::string_view stem;
  };
  static constexpr std::array<Irregular, 16> kIrregular = {{{"sky", "sky"},
                                                            {"skies", "sky"},
                                                            {"dying", "die"},
                                                            {"lying", "lie"},
                                                            {"tying", "tie"},
                                                            {"news", "news"},
                                                            {"innings", "inning"},
                                                            {"inning", "inning"},
                                                            {"outings", "outing"},
                                                            {"outing", "outing"},
                                                            {"cannings", "canning"},
                                                            {"canning", "canning"},
                                                            {"howe", "howe"},
                                                            {"proceed", "proceed"},
                                                            {"exceed", "exceed"},
                                                            {"succeed", "succeed"}}};
  for (const Irregular& entry : kIrregular) {
    if (entry.word == word) return entry.stem;
  }
  return {};
}

}  // namespace

std::string porter_stem(std::string_view word) {
  if (const auto stem = irregular_stem(word); !stem.empty()) return std::string(stem);
  std::string stem(word);
  if (word.size() <= 2) return stem;
  for (const auto step : {plurals_1a, past_and_ing_1b, y_to_i_1c, double_suffixes_2, suffixes_3,
                          suffixes_4, final_e_5a, final_l_5b}) {
    stem = step(std::move(stem));
  }
  return stem;
}

}  // namespace restkv::eval
