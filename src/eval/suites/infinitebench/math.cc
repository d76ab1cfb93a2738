// math_find and math_calc: questions about a long list of numbers or a long sum.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <set>
#include <string_view>
#include <vector>

#include "base/random.h"
#include "eval/suites/fill_template.h"
#include "eval/suites/infinitebench/generator_parts.h"

namespace restkv::eval {
namespace {

constexpr int64_t kUpperBound = 99;

enum class Wanted { kLargest, kSmallest, kMedian };

struct Question {
  std::string_view text;  ///< Of {task} in the question.
  Wanted wanted;
  size_t rank = 0;  ///< Among the distinct numbers, 0 being the largest or smallest.
};

/// The published generator and the released file call the median "median number".
constexpr std::array kQuestions = {
    Question{"largest number", Wanted::kLargest, 0},
    Question{"second largest number", Wanted::kLargest, 1},
    Question{"third largest number", Wanted::kLargest, 2},
    Question{"smallest number", Wanted::kSmallest, 0},
    Question{"second smallest number", Wanted::kSmallest, 1},
    Question{"third smallest number", Wanted::kSmallest, 2},
    Question{"median number", Wanted::kMedian},
};

/// Random numbers with a random bound on the side of the question, so that the answer is not always
/// 99 or 0.
std::vector<int64_t> draw(Wanted wanted, size_t count, Random& random) {
  if (wanted == Wanted::kMedian) {
    wanted = random.below(2) == 0 ? Wanted::kSmallest : Wanted::kLargest;
  }
  const int64_t low = wanted == Wanted::kSmallest ? random.between(0, kUpperBound / 5) : 0;
  const int64_t high =
      wanted == Wanted::kLargest ? random.between(kUpperBound * 4 / 5, kUpperBound) : kUpperBound;
  std::vector<int64_t> numbers(count);
  for (int64_t& number : numbers) number = random.between(low, high);
  return numbers;
}

Json answer(const Question& question, std::vector<int64_t> numbers) {
  if (question.wanted == Wanted::kMedian) {
    std::ranges::sort(numbers);
    const size_t middle = numbers.size() / 2;
    if (numbers.size() % 2 == 1) return numbers[middle];
    // A float even if it is an integer: the metric distinguishes them.
    return static_cast<double>(numbers[middle] + numbers[middle - 1]) / 2;
  }
  const std::set<int64_t> distinct(numbers.begin(), numbers.end());
  const auto rank = static_cast<std::ptrdiff_t>(question.rank);
  return question.wanted == Wanted::kLargest ? *std::next(distinct.rbegin(), rank)
                                             : *std::next(distinct.begin(), rank);
}

}  // namespace

Json make_math_find(const GeneratedRecord& request) {
  Random random(request.seed, "infinitebench/math_find", request.index);
  const Question& question = kQuestions[request.index * kQuestions.size() / request.records];
  std::vector<int64_t> numbers = draw(question.wanted, request.size, random);
  // A short list can miss a third number.
  while (std::set<int64_t>(numbers.begin(), numbers.end()).size() <= question.rank) {
    numbers = draw(question.wanted, request.size, random);
  }
  const auto input = infinitebench_facts("math_find").at("input").get<std::string>();
  return infinitebench_record(request.index, fmt::format("[{}]", fmt::join(numbers, ", ")),
                              fill_template(input, {{"task", question.text}}),
                              answer(question, numbers));
}

Json make_math_calc(const GeneratedRecord& request) {
  Random random(request.seed, "infinitebench/math_calc", request.index);
  int64_t value = random.between(0, kUpperBound);
  std::string expression = std::to_string(value);
  std::vector<int64_t> values;
  for (size_t i = 1; i < request.size; ++i) {
    const bool plus = random.below(2) == 0;
    const int64_t room = plus ? kUpperBound - value : value;
    int64_t operand = random.between(0, kUpperBound);
    if (operand > room) operand = random.between(0, room);
    expression += fmt::format(" {} {}", plus ? '+' : '-', operand);
    value += plus ? operand : -operand;
    values.push_back(value);
  }
  return infinitebench_record(request.index, std::move(expression),
                              "The value of the numerical expression is: ", values);
}

}  // namespace restkv::eval
