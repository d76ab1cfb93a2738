#pragma once

#include <span>
#include <string>
#include <string_view>

/// Scores of RULER (github.com/hsiehjackson/RULER, scripts/eval).
namespace restkv::eval {

/// Share of the references that occur in the prediction, 0 to 1, case ignored.
/// Throws Error(kInput) if there is no reference.
double string_match_all(std::string_view prediction, std::span<const std::string> references);

/// 1 if any reference occurs in the prediction, else 0; case ignored.
/// Throws Error(kInput) if there is no reference.
double string_match_part(std::string_view prediction, std::span<const std::string> references);

/// A prediction for the official evaluator: without white space at its ends, with control
/// characters U+0000 to U+001F as line ends. The ReST-KV evaluator scores the prediction unchanged.
std::string ruler_postprocess(std::string_view prediction);

/// Score of a task, 0 to 100: the mean over samples, rounded to 2 decimals. NaN without samples.
double ruler_task_score(std::span<const double> sample_scores);

}  // namespace restkv::eval
