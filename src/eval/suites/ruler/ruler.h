#pragma once

#include "eval/suite.h"

namespace restkv::eval {

/// RULER (Hsieh et al., COLM 2024): 13 tasks.
Suite ruler_suite();

}  // namespace restkv::eval
