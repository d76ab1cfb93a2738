// niah_*: needles, which are sentences with a key and a value, in a haystack.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "eval/suites/fill_template.h"
#include "eval/suites/infinitebench/uuid.h"
#include "eval/suites/ruler/generator.h"
#include "eval/suites/words.h"
#include "restkv/error.h"

namespace restkv::eval::ruler {
namespace {

/// "a", "a, b, and c"; also "a, and b".
std::string enumerate(const std::vector<std::string>& items) {
  if (items.size() == 1) return items.front();
  const auto last = items.end() - 1;
  return fmt::format("{}, and {}", fmt::join(items.begin(), last, ", "), *last);
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size()) {
    text.replace(at, from.size(), to);
  }
}

/// Possible depths of needles in an essay, in percent: 40 evenly spaced values.
std::vector<size_t> essay_depths() {
  constexpr size_t kCount = 40;
  std::vector<size_t> depths(kCount);
  for (size_t i = 0; i < kCount; ++i) {
    depths[i] = static_cast<size_t>(
        std::nearbyint(100.0 * static_cast<double>(i) / static_cast<double>(kCount - 1)));
  }
  return depths;
}

struct Needle {
  std::string key;
  std::string value;
  std::string sentence;
};

class NeedleGenerator : public Generator {
 public:
  explicit NeedleGenerator(const Setup& setup)
      : haystack_(setup.task->at("args").at("type_haystack").get<std::string>()),
        key_type_(setup.task->at("args").at("type_needle_k").get<std::string>()),
        value_type_(setup.task->at("args").at("type_needle_v").get<std::string>()),
        values_per_key_(setup.task->at("args").at("num_needle_v").get<size_t>()),
        queries_(setup.task->at("args").at("num_needle_q").get<size_t>()),
        keys_(std::max(setup.task->at("args").at("num_needle_k").get<size_t>(), queries_)),
        noise_(setup.prompts->at("repeat_haystack_sentence").get<std::string>()),
        needle_(setup.prompts->at("needle_sentence").get<std::string>()),
        template_(setup.text("template")),
        answer_prefix_(setup.text("answer_prefix")),
        step_(haystack_ == "essay"  ? 500
              : setup.length < 4096 ? 5
                                    : 25),
        essays_(setup.essays) {
    if (queries_ * values_per_key_ > 1) return;
    for (const auto& rewrite :
         setup.prompts->at("singular_rewrites_when_one_query_and_one_value")) {
      for (std::string* text : {&template_, &answer_prefix_}) {
        replace_all(*text, rewrite[0].get<std::string>(), rewrite[1].get<std::string>());
      }
    }
  }

  [[nodiscard]] Text make(Random& random, size_t units, size_t) const override {
    const std::vector<Needle> needles = draw_needles(random);
    std::vector<std::string> sentences;
    sentences.reserve(needles.size());
    for (const Needle& needle : needles) sentences.push_back(needle.sentence);
    random.shuffle(sentences);
    const std::string context = haystack_ == "essay" ? in_essay(random, units, sentences)
                                                     : in_lines(random, units, sentences);
    Text text;
    std::vector<std::string> asked;
    for (const size_t key : random.sample(keys_, queries_)) {
      asked.push_back(needles[key * values_per_key_].key);
      for (size_t v = 0; v < values_per_key_; ++v) {
        text.answers.push_back(needles[key * values_per_key_ + v].value);
      }
      if (queries_ * values_per_key_ == 1) text.depth = depth_of(needles[key], context);
    }
    const std::string query = enumerate(asked);
    std::string type = value_type_;
    if (text.answers.size() == 1) type.pop_back();  // numbers: number
    text.set_prompt(
        fill_prompt(template_, {{"type_needle_v", type}, {"context", context}, {"query", query}}));
    text.answer_prefix = fill_template(answer_prefix_, {{"type_needle_v", type}, {"query", query}});
    text.fitting_answer = fmt::format("{}", fmt::join(text.answers, " "));
    return text;
  }

  [[nodiscard]] size_t step() const override { return step_; }
  [[nodiscard]] size_t available() const override {
    return haystack_ == "essay" ? essays_->words.size() : Generator::available();
  }

 private:
  static std::string draw(Random& random, const std::string& type) {
    if (type == "numbers") return std::to_string(random.between(1'000'000, 9'999'999));
    if (type == "uuids") return random_uuid(random);
    const std::string_view adjective = random.pick(adjectives());
    const std::string_view noun = random.pick(nouns());
    return fmt::format("{}-{}", adjective, noun);
  }

  [[nodiscard]] Needle draw_needle(Random& random, std::string key) const {
    Needle needle{.key = std::move(key), .value = draw(random, value_type_), .sentence = {}};
    needle.sentence = fill_template(
        needle_, {{"type_needle_v", value_type_}, {"key", needle.key}, {"value", needle.value}});
    return needle;
  }

  /// Needles with the same key are adjacent.
  [[nodiscard]] std::vector<Needle> draw_needles(Random& random) const {
    std::vector<Needle> needles;
    for (size_t k = 0; k < keys_; ++k) {
      const std::string key = draw(random, key_type_);
      for (size_t v = 0; v < values_per_key_; ++v) needles.push_back(draw_needle(random, key));
    }
    return needles;
  }

  [[nodiscard]] std::string in_essay(Random& random, size_t words,
                                     const std::vector<std::string>& needles) const {
    static const std::vector<size_t> kDepths = essay_depths();
    std::vector<std::string_view> sentences = essays_->first(words);
    std::vector<size_t> positions;
    for (const size_t depth : random.sample(kDepths.size(), needles.size())) {
      // Computed in floating point as published: 29% of 100 is 28.
      positions.push_back(static_cast<size_t>(static_cast<double>(sentences.size()) *
                                              (static_cast<double>(kDepths[depth]) / 100)));
    }
    std::ranges::sort(positions);
    // An empty stretch between two needles, or before the first, keeps its spaces.
    std::vector<std::string> parts;
    size_t begin = 0;
    for (size_t i = 0; i <= needles.size(); ++i) {
      const size_t end = i < needles.size() ? positions[i] : sentences.size();
      parts.push_back(
          fmt::format("{}", fmt::join(sentences.begin() + static_cast<std::ptrdiff_t>(begin),
                                      sentences.begin() + static_cast<std::ptrdiff_t>(end), " ")));
      if (i < needles.size()) parts.push_back(needles[i]);
      begin = end;
    }
    return fmt::format("{}", fmt::join(parts, " "));
  }

  [[nodiscard]] std::string in_lines(Random& random, size_t count,
                                     const std::vector<std::string>& needles) const {
    std::vector<std::string> lines(count, noise_);
    if (haystack_ == "needle") {
      for (std::string& line : lines) {
        line = draw_needle(random, draw(random, key_type_)).sentence;
      }
    }
    std::vector<size_t> positions = random.sample(count, needles.size());
    std::ranges::sort(positions, std::greater<>());
    for (size_t i = 0; i < needles.size(); ++i) {
      lines.insert(lines.begin() + static_cast<std::ptrdiff_t>(positions[i]), needles[i]);
    }
    return fmt::format("{}", fmt::join(lines, "\n"));
  }

  static double depth_of(const Needle& needle, const std::string& context) {
    const size_t rest = context.size() - needle.sentence.size();
    return rest == 0
               ? 0
               : static_cast<double>(context.find(needle.sentence)) / static_cast<double>(rest);
  }

  std::string haystack_;  ///< "repeat", "essay" or "needle".
  std::string key_type_, value_type_;
  size_t values_per_key_, queries_, keys_;
  std::string noise_, needle_, template_, answer_prefix_;
  size_t step_;
  std::shared_ptr<const Essays> essays_;
};

}  // namespace

std::unique_ptr<Generator> needle_generator(const Setup& setup) {
  return std::make_unique<NeedleGenerator>(setup);
}

}  // namespace restkv::eval::ruler
