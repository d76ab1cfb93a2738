#include "eval/suites/niah/metrics.h"

#include <algorithm>
#include <set>
#include <string>

#include "eval/metrics/rouge_score.h"
#include "eval/metrics/text.h"

namespace restkv::eval {
namespace {

std::set<std::u32string, std::less<>> distinct_words(std::string_view text) {
  const std::u32string lower = text::lower(text::decode(text));
  const auto words = text::split(lower);
  return {words.begin(), words.end()};
}

}  // namespace

double niah_rouge_score(std::string_view response, std::string_view needle) {
  return 10 * rouge_1(response, needle, true);
}

double niah_overlap(std::string_view response, std::string_view expected) {
  const auto said = distinct_words(response);
  const auto wanted = distinct_words(expected);
  if (wanted.empty()) return 0;
  const auto found = std::count_if(wanted.begin(), wanted.end(),
                                   [&](const std::u32string& word) { return said.contains(word); });
  return static_cast<double>(found) / static_cast<double>(wanted.size());
}

}  // namespace restkv::eval
