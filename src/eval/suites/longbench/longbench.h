#pragma once

#include <string_view>

#include "eval/suite.h"

namespace restkv::eval {

/// LongBench (github.com/THUDM/LongBench, the 16 English datasets): files <dataset>.jsonl.
Suite longbench_suite();

/// One of its tasks; throws `Error` (kInvalidArgument) if there is none of that name.
TaskInfo longbench_task(std::string_view dataset);

}  // namespace restkv::eval
