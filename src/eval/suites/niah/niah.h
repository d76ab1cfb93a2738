#pragma once

#include "eval/suite.h"

namespace restkv::eval {

/// Needle in a haystack, as in the ReST-KV code: lengths by depths.
Suite niah_suite();

}  // namespace restkv::eval
