#pragma once

#include "eval/suites/ruler/generator.h"

namespace restkv::eval::ruler {

/// How many units of haystack a task's prompts have.
struct Fit {
  size_t length = 0;              ///< Tokens that prompt and answer may have.
  size_t tokens_to_generate = 0;  ///< Of which for the answer.
  CountTokens count_tokens;
};

/// Whether the published program would take the sample as it is.
bool fits(const Generator& generator, const Fit& fit, const Text& sample);

/// The units with which RULER begins every sample: as many steps as leave room for the answer. The
/// published program adds one step after the other; counts grow with the units, so bisection finds
/// the same number with about half a dozen prompts. `make(units)` is the sample that is measured.
/// Throws Error(kInvalidArgument) if the fewest units do not fit (the published program then never
/// ends).
size_t fit_units(const Generator& generator, const Fit& fit,
                 const std::function<Text(size_t units)>& make);

/// The sample `make` gives with `units` units or, where that is too long, with the most that fit
/// when taking away step after step. Throws Error(kInvalidArgument) if none does.
Text make_fitting(const Generator& generator, const Fit& fit, size_t units,
                  const std::function<Text(size_t units)>& make);

}  // namespace restkv::eval::ruler
