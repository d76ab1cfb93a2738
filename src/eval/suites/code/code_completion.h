#pragma once

#include "eval/suite.h"

namespace restkv::eval {

/// Completion of the next line of code after whole other files, at given lengths: records of
/// LongBench's lcc and repobench-p with other records in front of them. Defined by this project;
/// length 0 is LongBench's own prompt.
Suite code_completion_suite();

}  // namespace restkv::eval
