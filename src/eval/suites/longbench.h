#pragma once

#include "eval/suite.h"

namespace restkv::eval {

/// LongBench (github.com/THUDM/LongBench, the 16 English datasets): files <dataset>.jsonl.
Suite longbench_suite();

}  // namespace restkv::eval
