#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace restkv::eval {

/// Scores of one question whose choices were compared by log-likelihood: 0 or 1 each.
struct MultipleChoiceScore {
  double acc = 0;          ///< The most likely choice is the right one.
  double acc_norm = 0;     ///< The same after division by the choice's number of characters.
  double acc_bytes = 0;    ///< The same after division by its number of UTF-8 bytes.
  double exact_match = 0;  ///< Every token of the right choice was the most likely one.
};

/// As lm-evaluation-harness 0.4.13 scores it. `choices` stand without the delimiter before them;
/// of equally likely ones the first counts. An empty choice makes acc_norm and acc_bytes follow
/// NumPy's rules for a division by zero.
/// Throws Error(kInvalidArgument) if the spans are empty or differ in length or `gold` is beyond
/// them.
MultipleChoiceScore multiple_choice_score(std::span<const std::string> choices,
                                          std::span<const double> log_likelihoods,
                                          std::span<const char> greedy, size_t gold);

}  // namespace restkv::eval
