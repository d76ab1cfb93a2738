#pragma once

#include <array>
#include <string_view>

#include "eval/suite.h"

/// Suites of prompted multiple choice; see multiple_choice.h.
namespace restkv::eval {

Suite anli_suite();       ///< Adversarial NLI, rounds 1 to 3.
Suite glue_suite();       ///< GLUE's development sets.
Suite superglue_suite();  ///< SuperGLUE's validation sets in their published form.

inline constexpr std::array<std::string_view, 1> kHarnessProfile = {"official"};
inline constexpr std::string_view kHarnessRemark =
    "prompts and rules of lm-evaluation-harness 0.4.13, zero-shot; choices are scored as "
    "continuations of the compressed context";

}  // namespace restkv::eval
