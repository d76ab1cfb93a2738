#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "eval/suites/essays.h"
#include "eval/suites/fill_template.h"

/// The five generators of RULER's thirteen tasks (hsiehjackson/RULER, scripts/data/synthetic,
/// commit e40fae1), with the same texts and other random numbers.
namespace restkv::eval::ruler {

using CountTokens = std::function<size_t(std::string_view text)>;

/// Text of one sample.
struct Text {
  std::string prompt;
  size_t context_end = 0;  ///< Bytes of `prompt` before the question.
  std::string answer_prefix;
  std::vector<std::string> answers;
  /// Placeholder for the model's answer while the number of units is chosen; depends on the
  /// generator.
  std::string fitting_answer;
  std::optional<double> depth;  ///< Of the needle, if the question is about a single one.

  void set_prompt(FilledPrompt filled) {
    prompt = std::move(filled.text);
    context_end = filled.context_end;
  }
  /// Puts a text before the prompt.
  void prepend(const std::string& text) {
    prompt.insert(0, text);
    context_end += text.size();
  }
};

class Generator {
 public:
  virtual ~Generator() = default;

  /// A sample with `units` pieces of haystack. All draws use `random`; `index` chooses the question
  /// of tasks with given questions.
  [[nodiscard]] virtual Text make(Random& random, size_t units, size_t index) const = 0;

  /// Constant text before every prompt (a worked example). `extra_tokens` counts it, not the
  /// prompt.
  [[nodiscard]] virtual std::string before_prompt() const { return {}; }

  /// Units per step while a prompt is fitted to its length.
  [[nodiscard]] virtual size_t step() const = 0;
  [[nodiscard]] virtual size_t available() const { return std::numeric_limits<size_t>::max(); }
  /// The fewest units that are tried.
  [[nodiscard]] virtual size_t fewest() const { return step(); }
  /// Tokens of a sample besides its text in the published count.
  [[nodiscard]] virtual size_t extra_tokens() const { return 0; }
  /// Whether room for the generated tokens is reserved and the fitting answer counts.
  [[nodiscard]] virtual bool leaves_room_for_answer() const { return true; }
  /// Number of given questions; 0: any number of samples can be drawn.
  [[nodiscard]] virtual size_t questions() const { return 0; }
};

/// Inputs of a task.
struct Setup {
  const Json* prompts = nullptr;  ///< `ruler` of prompts.json.
  const Json* task = nullptr;     ///< Its `tasks.<name>`.
  size_t length = 0;              ///< Nominal length in tokens, answer included.
  uint64_t seed = 42;
  CountTokens count_tokens;
  std::shared_ptr<const Essays> essays;  ///< Only for tasks with an essay haystack.

  /// "template" or "answer_prefix" of the task's generator.
  [[nodiscard]] std::string text(const char* name) const;
};

std::unique_ptr<Generator> needle_generator(const Setup& setup);
std::unique_ptr<Generator> variable_tracking_generator(const Setup& setup);
std::unique_ptr<Generator> common_words_generator(const Setup& setup);
std::unique_ptr<Generator> frequent_words_generator(const Setup& setup);

}  // namespace restkv::eval::ruler
