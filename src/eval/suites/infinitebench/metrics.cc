#include "eval/suites/infinitebench/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <initializer_list>
#include <string>
#include <vector>

#include "base/find_named.h"
#include "eval/metrics/qa_f1.h"
#include "eval/metrics/rouge_score.h"
#include "eval/metrics/text.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

using Scorer = InfiniteBenchScorer;
using Score = std::optional<double>;

// --- Labels --------------------------------------------------------------------------------------

[[noreturn]] void refuse(const Json& label, std::string_view wanted) {
  throw Error(ErrorCode::kInput, fmt::format("the label {} is not {}", label.dump_ascii(), wanted));
}

/// The label, or the first item of a list.
const Json& single(const Json& label) {
  if (!label.is_array()) return label;
  if (label.empty()) refuse(label, "a text or number, or a list that begins with one");
  return label.front();
}

/// Whether a label's part is a text with a character to compare with.
bool is_filled_text(const Json& json) { return json.is_string() && !text::is_blank(json.text()); }

std::vector<std::string> texts(const Json& label) {
  std::vector<std::string> found;
  for (const Json& item : label.is_array() ? label : Json::array({label})) {
    if (!is_filled_text(item)) refuse(label, "a text or a list of texts");
    found.push_back(item.get<std::string>());
  }
  if (found.empty()) refuse(label, "a text or a list of texts");
  return found;
}

/// A text, or the first of a list.
std::u32string single_text(const Json& label) {
  const Json& wanted = single(label);
  if (!is_filled_text(wanted)) refuse(label, "a text, or a list that begins with one");
  return text::decode(wanted.get<std::string>());
}

/// Answer text and letter of a multiple choice.
struct Choice {
  std::u32string text;
  std::u32string letter;
  [[nodiscard]] bool has(std::u32string_view answer) const {
    return answer == text || answer == letter;
  }
  [[nodiscard]] bool begins(std::u32string_view answer) const {
    return answer.starts_with(text) || answer.starts_with(letter);
  }
};

Choice choice(const Json& label) {
  const std::vector<std::string> items = texts(label);
  const bool has_letter = items.size() == 2 && items[1].size() == 1 &&
                          std::string_view("ABCD").find(items[1]) != std::string_view::npos;
  if (!has_letter) refuse(label, "a list of the answer's text and its letter");
  return {text::decode(items[0]), text::decode(items[1])};
}

// --- Numbers, of any length as in Python ---------------------------------------------------------

/// A whole number in its shortest form: "-12", "0".
std::string shortest(std::string_view digits, bool negative) {
  digits.remove_prefix(std::min(digits.find_first_not_of('0'), digits.size()));
  if (digits.empty()) return "0";
  std::string number(negative ? "-" : "");
  return number.append(digits);
}

/// The label as a whole number in its shortest form; empty if it is none.
std::string whole_number(const Json& label) {
  if (label.is_number_integer()) return label.dump();
  if (label.is_number_float()) {
    const auto value = label.get<double>();
    if (std::isfinite(value) && value == std::trunc(value)) return fmt::format("{:.0f}", value);
  }
  return {};
}

/// Digits of any script as ASCII digits; other characters stay.
std::string ascii_number(std::u32string_view number) {
  std::string out;
  for (const char32_t c : number) {
    out += text::is_digit(c) ? std::string(1, static_cast<char>('0' + text::digit_value(c)))
                             : text::encode(std::u32string_view(&c, 1));
  }
  return out;
}

/// Python converts no longer text to a whole number.
constexpr size_t kLongestWholeNumber = 4300;

/// int(word) of Python in its shortest form: a sign, and digits of any script with single
/// underscores between them. Empty if the word is none.
std::string parse_whole_number(std::u32string_view word) {
  const bool signed_word = !word.empty() && (word.front() == U'-' || word.front() == U'+');
  const bool negative = signed_word && word.front() == U'-';
  if (signed_word) word.remove_prefix(1);
  std::u32string digits;
  for (const std::u32string_view part : text::split(word, U'_')) {
    if (part.empty() || !std::all_of(part.begin(), part.end(), text::is_digit)) return {};
    digits += part;
  }
  if (digits.size() > kLongestWholeNumber) return {};
  return shortest(ascii_number(digits), negative);
}

bool is_ascii_digit(char32_t c) { return c >= U'0' && c <= U'9'; }

/// The first whole or decimal number without its sign, in ASCII digits; empty if there is none.
std::string first_number(std::u32string_view prediction) {
  const auto begin = std::find_if(prediction.begin(), prediction.end(), text::is_digit);
  auto end = std::find_if_not(begin, prediction.end(), text::is_digit);
  if (end != prediction.end() && *end == U'.' && end + 1 != prediction.end() &&
      text::is_digit(*(end + 1))) {
    end = std::find_if_not(end + 1, prediction.end(), text::is_digit);
  }
  return ascii_number(std::u32string(begin, end));
}

// --- Cleaning ------------------------------------------------------------------------------------

std::u32string blank_out_all(std::u32string_view prediction,
                             std::initializer_list<std::u32string_view> parts) {
  std::u32string text(prediction);
  for (const std::u32string_view part : parts) text = text::blank_out(text, part);
  return text;
}

bool has(const std::vector<std::u32string_view>& words, std::u32string_view word) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// The text after the first of `prefixes` that occurs and one more character; none if no prefix
/// occurs, "" if it ends the text. An empty answer matches no label.
std::optional<std::u32string_view> after_prefix(
    std::u32string_view text, std::initializer_list<std::u32string_view> prefixes) {
  for (const std::u32string_view prefix : prefixes) {
    const size_t at = text.find(prefix);
    if (at == std::u32string_view::npos) continue;
    return text.substr(std::min(at + prefix.size() + 1, text.size()));
  }
  return std::nullopt;
}

// --- Tasks ---------------------------------------------------------------------------------------

Score first_digits(std::u32string_view prediction, const Json& label, Scorer /*scorer*/) {
  const auto numbers = text::runs(prediction, is_ascii_digit);
  const std::u32string wanted = single_text(label);
  if (!std::ranges::all_of(wanted, is_ascii_digit)) refuse(label, "a text of digits");
  return !numbers.empty() && numbers.front() == wanted ? 1 : 0;
}

Score kv_retrieval(std::u32string_view prediction, const Json& label, Scorer scorer) {
  const bool original = scorer == Scorer::kOriginal;
  (void)single_text(label);  // or refuse it
  // The original looks for the list itself, which is no word.
  const Json& wanted = original ? label : single(label);
  if (!wanted.is_string()) return 0;
  std::u32string text =
      blank_out_all(prediction, {U"\n", U":", U"\"", U"'", U".", U",", U"?", U"!", U"{", U"}"});
  if (!original) text = blank_out_all(text, {U"</s>", U"The", U"To"});
  return has(text::split(text), text::decode(wanted.get<std::string>())) ? 1 : 0;
}

Score code_run(std::u32string_view prediction, const Json& label, Scorer /*scorer*/) {
  const std::string wanted = whole_number(single(label));
  if (wanted.empty()) refuse(label, "a whole number");
  const std::u32string text = blank_out_all(prediction, {U"\n", U".", U"`", U"'", U"\"", U":"});
  const auto words = text::split(text);
  if (words.empty()) return 0;
  return parse_whole_number(words.back()) == wanted ? 1 : 0;
}

Score code_debug(std::u32string_view prediction, const Json& label, Scorer scorer) {
  const Choice wanted = choice(label);
  const std::u32string_view answer = text::strip(prediction);
  const std::u32string_view separators = scorer == Scorer::kOriginal ? U".:" : U".: \n";
  const std::u32string_view start = answer.substr(0, 2);
  for (const char32_t separator : separators) {
    if (start == wanted.letter + separator) return 1;
  }
  const std::u32string text = text::collapse_spaces(
      blank_out_all(answer, {U"\n", U"`", U"'", U"\"", U"-", U"*", U"Option", U"option"}));
  const auto said = after_prefix(text, {U"answer is:", U"is:", U"answer:"});
  return said && wanted.begins(*said) ? 1 : 0;
}

Score math_find(std::u32string_view prediction, const Json& label, Scorer scorer) {
  const Json& wanted = single(label);
  if (!wanted.is_number()) refuse(label, "a number");
  const std::string said = first_number(prediction);
  if (said.empty()) return 0;
  if (wanted.is_number_float()) {
    return std::strtod(said.c_str(), nullptr) == wanted.get<double>() ? 1 : 0;
  }
  if (scorer == Scorer::kOriginal) {
    if (said.find('.') != std::string::npos || said.size() > kLongestWholeNumber) return {};
    return shortest(said, false) == whole_number(wanted) ? 1 : 0;
  }
  const double value = std::trunc(std::strtod(said.c_str(), nullptr));
  if (!std::isfinite(value)) return {};
  return fmt::format("{:.0f}", value) == whole_number(wanted) ? 1 : 0;
}

Score math_calc(std::u32string_view prediction, const Json& label, Scorer scorer) {
  const bool nested =
      scorer == Scorer::kOriginal && label.is_array() && !label.empty() && label.front().is_array();
  const Json& wanted = nested ? label.front() : label;
  const auto is_whole = [](const Json& number) { return !whole_number(number).empty(); };
  if (!wanted.is_array() || wanted.empty() || !std::ranges::all_of(wanted, is_whole)) {
    refuse(label, "a list of whole numbers");
  }
  const auto numbers = text::runs(prediction, is_ascii_digit);
  for (const std::u32string_view number : numbers) {
    if (number.size() > kLongestWholeNumber) return {};
  }
  size_t right = 0;
  while (right < wanted.size() && right < numbers.size() &&
         shortest(text::encode(numbers[right]), false) == whole_number(wanted[right])) {
    ++right;
  }
  return static_cast<double>(right) / static_cast<double>(wanted.size());
}

Score longdialogue(std::u32string_view prediction, const Json& label, Scorer /*scorer*/) {
  const std::u32string text = text::upper(
      blank_out_all(prediction, {U"\n", U":", U"\"", U"'", U".", U",", U"?", U"!", U"{", U"}"}));
  return has(text::split(text), text::decode(texts(label).front())) ? 1 : 0;
}

Score longbook_choice(std::u32string_view prediction, const Json& label, Scorer /*scorer*/) {
  constexpr std::u32string_view kLetters = U"ABCD";
  const Choice wanted = choice(label);
  const std::u32string_view answer = text::strip(prediction);
  if (answer.empty()) return 0;
  if (text::contains(kLetters, answer.substr(0, 1))) return wanted.has(answer.substr(0, 1)) ? 1 : 0;
  if (wanted.has(answer)) return 1;
  const std::u32string text = text::collapse_spaces(
      blank_out_all(answer, {U"\n", U"\"", U"'", U".", U",", U"?", U"!", U"{", U"}"}));
  if (const auto said = after_prefix(text, {U"answer is:", U"answer:", U"answer is", U"option is"}))
    return wanted.begins(*said) ? 1 : 0;
  for (const std::u32string_view word : text::split(text)) {
    if (text::contains(kLetters, word)) return wanted.has(word) ? 1 : 0;
  }
  return 0;
}

/// The best of a metric over the labels.
Score best(std::u32string_view prediction, const Json& label,
           double (*metric)(std::string_view, std::string_view)) {
  const std::string said = text::encode(prediction);
  double most = 0;
  for (const std::string& wanted : texts(label)) most = std::max(most, metric(said, wanted));
  return most;
}

Score longbook_qa_eng(std::u32string_view prediction, const Json& label, Scorer /*scorer*/) {
  return best(prediction, label, qa_f1);
}

Score longbook_qa_chn(std::u32string_view prediction, const Json& label, Scorer /*scorer*/) {
  return best(prediction, label, qa_f1_chinese);
}

Score longbook_sum(std::u32string_view prediction, const Json& label, Scorer /*scorer*/) {
  return best(prediction, label, rouge_lsum);
}

struct TaskScore {
  std::string_view name;
  Score (*score)(std::u32string_view prediction, const Json& label, Scorer scorer);
};

constexpr std::array<TaskScore, 12> kTasks = {{
    {"passkey", first_digits},
    {"number_string", first_digits},
    {"kv_retrieval", kv_retrieval},
    {"longbook_sum_eng", longbook_sum},
    {"longbook_qa_eng", longbook_qa_eng},
    {"longbook_choice_eng", longbook_choice},
    {"longdialogue_qa_eng", longdialogue},
    {"longbook_qa_chn", longbook_qa_chn},
    {"code_debug", code_debug},
    {"code_run", code_run},
    {"math_find", math_find},
    {"math_calc", math_calc},
}};

}  // namespace

std::vector<std::string_view> infinitebench_tasks() {
  std::vector<std::string_view> names(kTasks.size());
  std::transform(kTasks.begin(), kTasks.end(), names.begin(),
                 [](const TaskScore& task) { return task.name; });
  return names;
}

std::optional<double> infinitebench_score(std::string_view task, std::string_view prediction,
                                          const Json& label, InfiniteBenchScorer scorer) {
  return find_named(kTasks, &TaskScore::name, task, "InfiniteBench has no task '{}'; known: {}")
      .score(text::decode(prediction), label, scorer);
}

}  // namespace restkv::eval
