#include "eval/metrics/rouge_score.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <unordered_map>

#include "eval/metrics/lcs.h"
#include "eval/metrics/porter.h"
#include "eval/metrics/text.h"

namespace restkv::eval {
namespace {

bool is_token_character(char32_t c) { return (c >= U'a' && c <= U'z') || (c >= U'0' && c <= U'9'); }

/// F from hits and the numbers of words on both sides, of which neither may be 0.
double f_measure(size_t hits, size_t predicted, size_t wanted) {
  const double precision = static_cast<double>(hits) / static_cast<double>(predicted);
  const double recall = static_cast<double>(hits) / static_cast<double>(wanted);
  if (precision + recall <= 0) return 0;
  return 2 * precision * recall / (precision + recall);
}

using Sentence = std::vector<uint32_t>;  ///< Words, as numbers.

/// The words of the lines that are not empty.
std::vector<Sentence> sentences(std::string_view text,
                                std::unordered_map<std::string, uint32_t>& numbers) {
  std::vector<Sentence> found;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    if (end > 0) {
      Sentence& sentence = found.emplace_back();
      for (std::string& word : rouge_tokens(text.substr(0, end), false)) {
        const auto next = static_cast<uint32_t>(numbers.size());
        sentence.push_back(numbers.try_emplace(std::move(word), next).first->second);
      }
    }
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return found;
}

std::map<uint32_t, size_t> counts(const std::vector<Sentence>& sentences) {
  std::map<uint32_t, size_t> count;
  for (const Sentence& sentence : sentences) {
    for (const uint32_t word : sentence) ++count[word];
  }
  return count;
}

size_t number_of_words(const std::vector<Sentence>& sentences) {
  size_t n = 0;
  for (const Sentence& sentence : sentences) n += sentence.size();
  return n;
}

}  // namespace

std::vector<std::string> rouge_tokens(std::string_view text, bool stem) {
  std::vector<std::string> tokens;
  const std::u32string lower = text::lower(text::decode(text));
  for (const std::u32string_view run : text::runs(lower, is_token_character)) {
    std::string token = text::encode(run);
    constexpr size_t kLongestUnstemmed = 3;
    tokens.push_back(stem && token.size() > kLongestUnstemmed ? porter_stem(token)
                                                              : std::move(token));
  }
  return tokens;
}

double rouge_1(std::string_view prediction, std::string_view reference, bool stem) {
  std::vector<std::string> predicted = rouge_tokens(prediction, stem);
  std::vector<std::string> wanted = rouge_tokens(reference, stem);
  if (predicted.empty() || wanted.empty()) return 0;
  std::sort(predicted.begin(), predicted.end());
  std::sort(wanted.begin(), wanted.end());
  std::vector<std::string> shared;
  std::set_intersection(predicted.begin(), predicted.end(), wanted.begin(), wanted.end(),
                        std::back_inserter(shared));
  return f_measure(shared.size(), predicted.size(), wanted.size());
}

double rouge_lsum(std::string_view prediction, std::string_view reference) {
  std::unordered_map<std::string, uint32_t> numbers;
  const std::vector<Sentence> predicted = sentences(prediction, numbers);
  const std::vector<Sentence> wanted = sentences(reference, numbers);
  const size_t predicted_words = number_of_words(predicted);
  const size_t wanted_words = number_of_words(wanted);
  if (predicted_words == 0 || wanted_words == 0) return 0;

  // Lines that repeat add nothing to a union.
  const std::set<Sentence> candidates(predicted.begin(), predicted.end());
  std::map<uint32_t, size_t> left_predicted = counts(predicted);
  std::map<uint32_t, size_t> left_wanted = counts(wanted);
  size_t hits = 0;
  for (const Sentence& sentence : wanted) {
    // The package prefers a step along the reference, as the walk along the columns does.
    const LcsColumns columns(sentence);
    std::set<size_t> common;
    for (const Sentence& candidate : candidates) {
      const LcsColumns::Walk walk = columns.walk(candidate);
      common.insert(walk.columns.begin(), walk.columns.end());
    }
    for (const size_t at : common) {
      size_t& here = left_wanted[sentence[at]];
      size_t& there = left_predicted[sentence[at]];
      if (here == 0 || there == 0) continue;
      --here;
      --there;
      ++hits;
    }
  }
  return f_measure(hits, predicted_words, wanted_words);
}

}  // namespace restkv::eval
