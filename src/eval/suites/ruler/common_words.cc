// cwe: ten words that appear more often than the others in a numbered list.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "eval/suites/fill_template.h"
#include "eval/suites/ruler/generator.h"
#include "eval/suites/words.h"

namespace restkv::eval::ruler {
namespace {

/// Nouns, adjectives and verbs, each word once, in order.
const std::vector<std::string_view>& all_words() {
  static const std::vector<std::string_view> kWords = [] {
    std::set<std::string_view> words;
    for (const auto* list : {&nouns(), &adjectives(), &verbs()}) {
      words.insert(list->begin(), list->end());
    }
    return std::vector<std::string_view>(words.begin(), words.end());
  }();
  return kWords;
}

/// "1. river 2. stone".
std::string numbered(const std::vector<std::string_view>& words) {
  std::string text;
  for (size_t i = 0; i < words.size(); ++i) {
    text += fmt::format("{}{}. {}", i > 0 ? " " : "", i + 1, words[i]);
  }
  return text;
}

struct WordList {
  std::string context;
  std::vector<std::string_view> common;
};

struct Repeats {
  size_t common = 0;
  size_t uncommon = 0;
};

class CommonWords : public Generator {
 public:
  explicit CommonWords(const Setup& setup)
      : template_(setup.text("template")), answer_prefix_(setup.text("answer_prefix")) {
    const Json& args = setup.task->at("args");
    common_ = args.at("num_cw").get<size_t>();
    if (setup.length < 4096) {
      example_words_ = 20;
      example_repeats_ = {3, 1};
      repeats_ = {6, 1};
    } else {
      example_words_ = 40;
      example_repeats_ = {10, 3};
      repeats_ = {args.at("freq_cw").get<size_t>(), args.at("freq_ucw").get<size_t>()};
    }
  }

  [[nodiscard]] Text make(Random& random, size_t units, size_t) const override {
    const WordList example = draw(random, example_words_, example_repeats_);
    const WordList list = draw(random, units, repeats_);
    Text text;
    text.set_prompt(filled(list));
    text.prepend(
        fmt::format("{}{}{}\n", filled(example).text, answer_prefix_, numbered(example.common)));
    text.answer_prefix = answer_prefix_;
    text.answers.assign(list.common.begin(), list.common.end());
    text.fitting_answer = fmt::format(" {}", numbered(list.common));
    return text;
  }

  [[nodiscard]] size_t step() const override { return 10; }
  [[nodiscard]] size_t available() const override { return all_words().size(); }

 private:
  [[nodiscard]] WordList draw(Random& random, size_t count, Repeats repeats) const {
    std::vector<std::string_view> words;
    WordList list;
    for (const size_t word : random.sample(all_words().size(), count)) {
      const bool common = list.common.size() < common_;
      if (common) list.common.push_back(all_words()[word]);
      words.insert(words.end(), common ? repeats.common : repeats.uncommon, all_words()[word]);
    }
    random.shuffle(words);
    list.context = numbered(words);
    return list;
  }

  [[nodiscard]] FilledPrompt filled(const WordList& list) const {
    return fill_prompt(template_, {{"context", list.context}, {"query", ""}});
  }

  std::string template_, answer_prefix_;
  size_t common_ = 0;
  size_t example_words_ = 0;
  Repeats example_repeats_, repeats_;
};

}  // namespace

std::unique_ptr<Generator> common_words_generator(const Setup& setup) {
  return std::make_unique<CommonWords>(setup);
}

}  // namespace restkv::eval::ruler
