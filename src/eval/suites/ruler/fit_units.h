#pragma once

#include "eval/suites/ruler/generator.h"

namespace restkv::eval::ruler {

/// Number of units of haystack in a task's prompts.
struct Fit {
  size_t length = 0;              ///< Limit of tokens of prompt and answer.
  size_t tokens_to_generate = 0;  ///< Tokens of the answer.
  CountTokens count_tokens;
};

/// Whether the published program would accept the sample.
bool fits(const Generator& generator, const Fit& fit, const Text& sample);

/// The initial number of units of every sample: as many steps as leave room for the answer. The
/// published program adds single steps. Token counts grow with the units, so bisection finds the
/// same number with about half a dozen prompts. `make(units)` makes a sample to measure. Throws
/// `Error` (kInvalidArgument) if the fewest units do not fit (the published program then never
/// ends).
size_t fit_units(const Generator& generator, const Fit& fit,
                 const std::function<Text(size_t units)>& make);

/// The sample of `make` with `units` units, reduced step by step until it fits. Throws `Error`
/// (kInvalidArgument) if none fits.
Text make_fitting(const Generator& generator, const Fit& fit, size_t units,
                  const std::function<Text(size_t units)>& make);

}  // namespace restkv::eval::ruler
