#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "eval/suites/essays.h"

/// The five generators behind RULER's thirteen tasks (hsiehjackson/RULER, scripts/data/synthetic,
/// commit e40fae1). The text is laid out as theirs; the random choices are this project's own.
namespace restkv::eval::ruler {

using CountTokens = std::function<size_t(std::string_view text)>;

/// Text of one sample.
struct Text {
  std::string prompt;
  std::string answer_prefix;
  std::vector<std::string> answers;
  /// Stands for the model's answer when the number of units is chosen; each generator's own form.
  std::string fitting_answer;
  std::optional<double> depth;  ///< Of the only needle that is asked for.
};

class Generator {
 public:
  virtual ~Generator() = default;

  /// A sample with `units` pieces of haystack. All draws come from `random`; `index` chooses the
  /// question where questions are given.
  [[nodiscard]] virtual Text make(Random& random, size_t units, size_t index) const = 0;

  /// The same text before every prompt (a worked example). It is not counted as part of the prompt
  /// but by `extra_tokens`.
  [[nodiscard]] virtual std::string before_prompt() const { return {}; }

  /// Units that are added at a time when a prompt is fitted to its length, and how many there are.
  [[nodiscard]] virtual size_t step() const = 0;
  [[nodiscard]] virtual size_t available() const { return std::numeric_limits<size_t>::max(); }
  /// The fewest units that are tried.
  [[nodiscard]] virtual size_t fewest() const { return step(); }
  /// Tokens that a sample costs beside its text in the published count.
  [[nodiscard]] virtual size_t extra_tokens() const { return 0; }
  /// Whether tokens to generate are left free and the fitting answer counts.
  [[nodiscard]] virtual bool leaves_room_for_answer() const { return true; }
  /// Given questions; 0: any number of samples can be drawn.
  [[nodiscard]] virtual size_t questions() const { return 0; }
};

/// What a task is made of.
struct Setup {
  const Json* prompts = nullptr;  ///< `ruler` of prompts.json.
  const Json* task = nullptr;     ///< Its `tasks.<name>`.
  size_t length = 0;              ///< Tokens wanted, answer included.
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
