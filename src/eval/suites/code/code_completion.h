#pragma once

#include "eval/suite.h"

namespace restkv::eval {

/// The next line of code behind whole other files, as long as wanted: records of LongBench's lcc
/// and repobench-p with other records in front of them. Defined by this project; length 0 is
/// LongBench's own prompt.
Suite code_completion_suite();

}  // namespace restkv::eval
