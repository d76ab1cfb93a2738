// vt: a chain of variable assignments spread over noise.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>
#include <utility>

#include "eval/metrics/text.h"
#include "eval/suites/fill_template.h"
#include "eval/suites/ruler/fit_units.h"
#include "eval/suites/ruler/generator.h"
#include "eval/suites/ruler/python_list.h"

namespace restkv::eval::ruler {
namespace {

/// Sentences of the noise, cut after each full stop; the line end that remains is kept.
std::vector<std::string> cut_at_stops(const std::vector<std::string>& sentences) {
  std::vector<std::string> pieces;
  for (std::string_view rest : sentences) {
    for (size_t stop; (stop = rest.find('.')) != std::string_view::npos;) {
      pieces.emplace_back(rest.substr(0, stop + 1));
      rest.remove_prefix(stop + 1);
    }
    pieces.emplace_back(rest);
  }
  return pieces;
}

/// The chain with its noise, without an example before it.
class Chain : public Generator {
 public:
  Chain(const Setup& setup, size_t name_length, size_t step)
      : name_length_(name_length),
        step_(step),
        hops_(setup.task->at("args").at("num_hops").get<size_t>()),
        noise_(setup.prompts->at("vt_noise_sentence").get<std::string>()),
        template_(setup.text("template")),
        answer_prefix_(setup.text("answer_prefix")) {}

  [[nodiscard]] Text make(Random& random, size_t units, size_t) const override {
    const std::vector<std::string> names = draw_names(random);
    const std::string value = std::to_string(random.between(10000, 99998));
    std::vector<std::string> chain = {fmt::format("VAR {} = {}", names[0], value)};
    for (size_t i = 1; i < names.size(); ++i) {
      chain.push_back(fmt::format("VAR {} = VAR {} ", names[i], names[i - 1]));
    }
    std::vector<std::string> sentences(units, noise_);
    if (sentences.size() <= chain.size()) sentences = cut_at_stops(sentences);
    std::vector<size_t> positions = random.sample(sentences.size(), chain.size());
    std::ranges::sort(positions);
    for (size_t i = 0; i < chain.size(); ++i) {
      sentences.insert(sentences.begin() + static_cast<std::ptrdiff_t>(positions[i] + i), chain[i]);
    }
    std::string context = fmt::format("{}", fmt::join(sentences, " "));
    for (size_t at = 0; (at = context.find(". \n", at)) != std::string::npos;) {
      context.erase(at + 1, 1);
    }

    Text text;
    text.set_prompt(fill_prompt(template_, {{"context", context}, {"query", value}}));
    text.answer_prefix =
        fill_template(answer_prefix_, {{"query", value}, {"num_v", std::to_string(names.size())}});
    text.answers = names;
    text.fitting_answer = fmt::format(" {}", python_list(names));
    return text;
  }

  [[nodiscard]] size_t step() const override { return step_; }

  /// Uses the template of the example: white space is collapsed, the last word is missing.
  void use_example_template() {
    const std::u32string all = text::decode(template_);
    auto words = text::split(all);
    words.pop_back();
    template_ = text::encode(text::join(words, U" "));
  }

 private:
  [[nodiscard]] std::vector<std::string> draw_names(Random& random) const {
    std::vector<std::string> names;
    std::set<std::string> seen;
    while (names.size() <= hops_) {
      std::string name(name_length_, 'A');
      for (char& letter : name) letter = static_cast<char>('A' + random.below(26));
      if (seen.insert(name).second) names.push_back(std::move(name));
    }
    return names;
  }

  size_t name_length_, step_, hops_;
  std::string noise_, template_, answer_prefix_;
};

/// The chain after a worked example, which is the same for all samples of a length.
class VariableTracking : public Generator {
 public:
  explicit VariableTracking(const Setup& setup) : chain_(setup, 5, 10) {
    Chain short_chain(setup, 3, 5);
    short_chain.use_example_template();
    const Fit fit{.length = 500,
                  .tokens_to_generate = setup.task->at("tokens_to_generate").get<size_t>(),
                  .count_tokens = setup.count_tokens};
    const auto make_example = [&](size_t units) {
      Random random(setup.seed, "ruler/vt/example", 0);
      return short_chain.make(random, units, 0);
    };
    const Text text =
        make_fitting(short_chain, fit, fit_units(short_chain, fit, make_example), make_example);
    example_ =
        fmt::format("{}{} {}\n\n", text.prompt, text.answer_prefix, fmt::join(text.answers, " "));
    example_tokens_ = setup.count_tokens(example_);
  }

  [[nodiscard]] Text make(Random& random, size_t units, size_t index) const override {
    return chain_.make(random, units, index);
  }
  [[nodiscard]] std::string before_prompt() const override {
    return fmt::format(" {}\n\n", example_);
  }
  [[nodiscard]] size_t step() const override { return chain_.step(); }
  [[nodiscard]] size_t extra_tokens() const override { return example_tokens_; }

 private:
  Chain chain_;
  std::string example_;
  size_t example_tokens_ = 0;
};

}  // namespace

std::unique_ptr<Generator> variable_tracking_generator(const Setup& setup) {
  return std::make_unique<VariableTracking>(setup);
}

}  // namespace restkv::eval::ruler
