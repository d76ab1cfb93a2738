#pragma once

#include <optional>
#include <string_view>
#include <vector>

#include "base/json.h"

/// Scores of InfiniteBench's 12 tasks.
namespace restkv::eval {

/// The two published scoring programs; they differ in kv_retrieval, code_debug and math_find.
enum class InfiniteBenchScorer {
  kRestKv,    ///< eval_infinite.py of an-yongqi/rest-kv.
  kOriginal,  ///< src/compute_scores.py of OpenBMB/InfiniteBench.
};

/// "passkey", "number_string", "kv_retrieval", ...
std::vector<std::string_view> infinitebench_tasks();

/// Score of one prediction, 0 to 1. `label` is the record's answer: a text, a number or a list of
/// them; [answer text, letter] for code_debug and longbook_choice_eng. None if the published
/// program fails (the original, for a decimal number in math_find); this counts as 0. The program's
/// rule for GPT-4 in math_calc, which drops the first number, is left out. Throws Error:
/// kInvalidArgument (unknown task), kInput (a label that the task cannot have).
std::optional<double> infinitebench_score(std::string_view task, std::string_view prediction,
                                          const Json& label, InfiniteBenchScorer scorer);

}  // namespace restkv::eval
