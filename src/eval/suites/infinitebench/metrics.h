#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/json.h"

/// Scores of InfiniteBench's 12 tasks.
namespace restkv::eval {

/// Two programs score it; they differ in kv_retrieval, code_debug and math_find.
enum class InfiniteBenchScorer {
  kRestKv,    ///< eval_infinite.py of an-yongqi/rest-kv.
  kOriginal,  ///< src/compute_scores.py of OpenBMB/InfiniteBench.
};

/// "passkey", "number_string", "kv_retrieval", ...
std::vector<std::string_view> infinitebench_tasks();

/// Score of one prediction, 0 to 1. `label` is the record's answer: a text, a number or a list of
/// them; [answer text, letter] for code_debug and longbook_choice_eng. Nothing where the published
/// program stops with an error (a decimal number in math_find, for the original); counts as 0.
/// The program's rule for GPT-4, whose first number it drops in math_calc, is left out.
/// Throws Error: kInvalidArgument (unknown task), kInput (a label that the task cannot have).
std::optional<double> infinitebench_score(std::string_view task, std::string_view prediction,
                                          const Json& label, InfiniteBenchScorer scorer);

}  // namespace restkv::eval
