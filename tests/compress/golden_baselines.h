#pragma once

#include "support/golden.h"

namespace restkv {

/// Whether golden_baselines_test.cc compares the case.
bool is_golden_baseline(const testing::GoldenCase& golden);

}  // namespace restkv
