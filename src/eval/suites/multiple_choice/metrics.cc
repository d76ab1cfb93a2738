#include "eval/suites/multiple_choice/metrics.h"

#include <fmt/format.h>

#include <cmath>
#include <vector>

#include "eval/metrics/text.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

/// The first of the largest values; NaN, where it occurs, is the largest (numpy.argmax).
size_t arg_max(std::span<const double> values) {
  size_t best = 0;
  for (size_t i = 0; i < values.size(); ++i) {
    if (std::isnan(values[i])) return i;
    if (values[i] > values[best]) best = i;
  }
  return best;
}

}  // namespace

MultipleChoiceScore multiple_choice_score(std::span<const std::string> choices,
                                          std::span<const double> log_likelihoods,
                                          std::span<const char> greedy, size_t gold) {
  const size_t n = choices.size();
  if (n == 0 || log_likelihoods.size() != n || greedy.size() != n || gold >= n) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a question with {} choices, {} log-likelihoods and {} greedy flags "
                            "cannot have choice {} as the right one",
                            n, log_likelihoods.size(), greedy.size(), gold));
  }
  std::vector<double> per_character;
  std::vector<double> per_byte;
  for (size_t i = 0; i < n; ++i) {
    const auto characters = static_cast<double>(text::decode(choices[i]).size());
    per_character.push_back(log_likelihoods[i] / characters);
    per_byte.push_back(log_likelihoods[i] / static_cast<double>(choices[i].size()));
  }
  MultipleChoiceScore score;
  score.acc = arg_max(log_likelihoods) == gold ? 1 : 0;
  score.acc_norm = arg_max(per_character) == gold ? 1 : 0;
  score.acc_bytes = arg_max(per_byte) == gold ? 1 : 0;
  score.exact_match = greedy[gold] != 0 ? 1 : 0;
  return score;
}

}  // namespace restkv::eval
