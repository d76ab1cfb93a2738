#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace restkv::eval {

/// Kinds of text that the needle is hidden in.
enum class Haystack {
  kStories,  ///< "stories": sentences from a small seeded grammar; varied, needs no file.
  kNoise,    ///< "noise": one repeated line, as in RULER's niah_single_1.
  kEssay,    ///< "essay": the sentences of a text given by the user, as in RULER's niah_single_2.
};

/// Throws Error(kInvalidArgument) listing the names if `name` is not one of them.
Haystack haystack_from_name(std::string_view name);

struct NeedleRequest {
  uint64_t seed = 42;
  double depth = 0.5;           ///< Share of the haystack before the needle, [0, 1].
  size_t target_tokens = 4000;  ///< Limit of tokens of `NeedlePrompt::prompt()`.
  Haystack haystack = Haystack::kStories;
  std::string_view essay = {};  ///< The text of Haystack::kEssay; repeated if it is too short.
};

/// One single-needle retrieval prompt in the wording of RULER (Hsieh et al., COLM 2024).
struct NeedlePrompt {
  std::string text;           ///< Instruction, haystack and needle, ending in a newline.
  std::string question;       ///< Asked after the text. A chat template wraps text + question.
  std::string answer_prefix;  ///< Beginning of the model's answer, after the chat template.
  std::string answer;         ///< The seven-digit number to find.
  std::string key;            ///< The key of the number: "adjective-noun".
  double depth = 0;
  size_t needle_offset = 0;  ///< First byte of the needle sentence in `text`.
  size_t needle_length = 0;  ///< Bytes of the needle sentence.

  [[nodiscard]] std::string prompt() const { return text + question + answer_prefix; }
  [[nodiscard]] std::string_view needle() const {
    return std::string_view(text).substr(needle_offset, needle_length);
  }
};

using CountTokens = std::function<size_t(std::string_view text)>;

/// The longest prompt of whole haystack sentences (for kNoise: whole lines) that has at most
/// `target_tokens` tokens by `count_tokens`, which is called about half a dozen times. The same
/// request and counter give the same prompt on every platform. Throws Error(kInvalidArgument) for a
/// depth outside [0, 1] or a target too small for the question alone, Error(kInput) for kEssay
/// without a sentence in `essay`.
NeedlePrompt make_needle_prompt(const NeedleRequest& request, const CountTokens& count_tokens);

/// RULER's string match: whether `answer` occurs in `output`, ignoring case.
bool answer_found(std::string_view output, std::string_view answer);

}  // namespace restkv::eval
