#pragma once

#include "eval/suite.h"

namespace restkv::eval {

/// HumanEval (openai/human-eval, MIT): functions to complete, judged by running them. This project
/// adds variants: after a long context of code, with a function that must be found there, and as a
/// conversation. Running needs `SuiteOptions::allow_code_execution`, and `reduced_sandbox` if the
/// machine does not support the whole sandbox.
Suite humaneval_suite();

}  // namespace restkv::eval
