#pragma once

#include "eval/suite.h"

namespace restkv::eval {

/// InfiniteBench (github.com/OpenBMB/InfiniteBench, 12 tasks): files <task>.jsonl. The six
/// synthetic tasks are generated if their file is missing or lengths are given. They are then as
/// long as the model's context or the length allows, up to the published size.
Suite infinitebench_suite();

}  // namespace restkv::eval
