#include "eval/metrics/rouge_l.h"

#include <cstddef>
#include <cstdint>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "eval/metrics/lcs.h"
#include "eval/metrics/text.h"

namespace restkv::eval {
namespace {

/// Recursion steps that Python's limit of 1000 nested calls leaves below LongBench's eval.py and
/// the package.
constexpr size_t kOfficialSteps = 990;

using Sentence = std::vector<uint32_t>;  ///< Words, as numbers.

class Numbering {
 public:
  uint32_t number(std::u32string_view word) {
    const auto next = static_cast<uint32_t>(numbers_.size());
    return numbers_.try_emplace(std::u32string(word), next).first->second;
  }

 private:
  std::unordered_map<std::u32string, uint32_t> numbers_;
};

/// The distinct sentences; a repeated sentence adds nothing to a set of words.
std::set<Sentence> sentences(std::u32string_view text, Numbering& numbering) {
  std::set<Sentence> found;
  for (const std::u32string_view piece : text::split(text, U'.')) {
    if (piece.empty()) continue;
    Sentence sentence;
    for (const std::u32string_view word : text::split(piece)) {
      sentence.push_back(numbering.number(word));
    }
    // White space alone is one empty word.
    if (sentence.empty()) sentence.push_back(numbering.number(U""));
    found.insert(std::move(sentence));
  }
  return found;
}

double distinct_words(const std::set<Sentence>& sentences) {
  std::set<uint32_t> words;
  for (const Sentence& sentence : sentences) words.insert(sentence.begin(), sentence.end());
  return static_cast<double>(words.size());
}

}  // namespace

double rouge_l(std::string_view prediction, std::string_view reference,
               const RougeLOptions& options) {
  Numbering numbering;
  const std::set<Sentence> predicted = sentences(text::decode(prediction), numbering);
  const std::set<Sentence> wanted = sentences(text::decode(reference), numbering);
  if (predicted.empty() || wanted.empty()) return 0;

  std::set<uint32_t> common;
  for (const Sentence& candidate : predicted) {
    const LcsColumns columns(candidate);
    for (const Sentence& sentence : wanted) {
      const LcsColumns::Walk walk = columns.walk(sentence);
      if (options.official_recursion_limit && walk.steps >= kOfficialSteps) return 0;
      for (const size_t i : walk.rows) common.insert(sentence[i]);
    }
  }
  const auto shared = static_cast<double>(common.size());
  const double precision = shared / distinct_words(predicted);
  const double recall = shared / distinct_words(wanted);
  return 2.0 * (precision * recall / (precision + recall + 1e-8));
}

}  // namespace restkv::eval
