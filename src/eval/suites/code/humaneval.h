#pragma once

#include "eval/suite.h"

namespace restkv::eval {

/// HumanEval (openai/human-eval, MIT): functions to complete, judged by running them. Beside the
/// published task there are variants defined by this project: behind a long context of code, with a
/// function that must be found there, and as a conversation. Running needs
/// `SuiteOptions::allow_code_execution`, and `reduced_sandbox` where the machine does not permit
/// the whole sandbox.
Suite humaneval_suite();

}  // namespace restkv::eval
