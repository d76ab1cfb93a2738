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

/// The score of lm-evaluation-harness 0.4.13. `choices` are without the delimiter before them; the
/// first of equally likely ones counts. An empty choice divides by zero with NumPy's rules in
/// acc_norm and acc_bytes. Throws `Error` (kInvalidArgument) if the spans are empty or differ in
/// length or `gold` is out of range.
MultipleChoiceScore multiple_choice_score(std::span<const std::string> choices,
                                          std::span<const double> log_likelihoods,
                                          std::span<const char> greedy, size_t gold);

}  // namespace restkv::eval
