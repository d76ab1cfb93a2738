// fwe: made-up words whose numbers follow a zeta distribution.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numbers>
#include <set>

#include "eval/suites/fill_template.h"
#include "eval/suites/ruler/generator.h"

namespace restkv::eval::ruler {
namespace {

constexpr size_t kWordLength = 6;
/// The sum of all shares 1 / rank^2; RULER's exponent is always 2.
constexpr double kZeta = std::numbers::pi * std::numbers::pi / 6;

class FrequentWords : public Generator {
 public:
  explicit FrequentWords(const Setup& setup)
      : template_(setup.text("template")),
        answer_prefix_(setup.text("answer_prefix")),
        length_(setup.length) {}

  /// `units` is the number of words of the distribution; losses by rounding down are not
  /// compensated.
  [[nodiscard]] Text make(Random& random, size_t units, size_t) const override {
    std::vector<std::string> vocabulary = draw_vocabulary(random);
    vocabulary[0] = "...";  // the most frequent one is noise
    std::vector<std::string_view> words;
    for (size_t rank = 1; rank <= vocabulary.size(); ++rank) {
      const double share = 1 / (static_cast<double>(rank) * static_cast<double>(rank));
      const double count = static_cast<double>(units) * share / kZeta;
      words.insert(words.end(), static_cast<size_t>(count), vocabulary[rank - 1]);
    }
    random.shuffle(words);
    Text text;
    text.set_prompt(fill_prompt(
        template_, {{"context", fmt::format("{}", fmt::join(words, " "))}, {"query", ""}}));
    text.answer_prefix = answer_prefix_;
    text.answers.assign(vocabulary.begin() + 1, vocabulary.begin() + 4);
    return text;
  }

  [[nodiscard]] size_t step() const override { return std::max<size_t>(1, length_ / 32); }
  /// The published search begins at a sixth of the length and decreases from there if necessary.
  [[nodiscard]] size_t fewest() const override {
    return length_ / kWordLength - std::min(4 * step(), length_ / kWordLength - 1);
  }
  [[nodiscard]] bool leaves_room_for_answer() const override { return false; }

 private:
  [[nodiscard]] std::vector<std::string> draw_vocabulary(Random& random) const {
    constexpr size_t kTokensPerWord = 50;
    constexpr size_t kAnswers = 3;
    const size_t size = std::max(length_ / kTokensPerWord, kAnswers + 1);  // and the noise
    std::vector<std::string> vocabulary;
    std::set<std::string> seen;
    while (vocabulary.size() < size) {
      std::string word(kWordLength, 'a');
      for (char& letter : word) letter = static_cast<char>('a' + random.below(26));
      if (seen.insert(word).second) vocabulary.push_back(std::move(word));
    }
    return vocabulary;
  }

  std::string template_, answer_prefix_;
  size_t length_;
};

}  // namespace

std::unique_ptr<Generator> frequent_words_generator(const Setup& setup) {
  return std::make_unique<FrequentWords>(setup);
}

}  // namespace restkv::eval::ruler
