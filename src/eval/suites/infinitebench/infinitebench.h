#pragma once

#include "eval/suite.h"

namespace restkv::eval {

/// InfiniteBench (github.com/OpenBMB/InfiniteBench, 12 tasks): files <task>.jsonl. The six
/// synthetic tasks are generated where their file is not there, and wherever lengths are asked for;
/// they are then as long as the model's context or the length allows, at most the published size.
Suite infinitebench_suite();

}  // namespace restkv::eval
