#pragma once

#include "eval/suite.h"

/// Suites that make their own prompts.
namespace restkv::eval {

Suite ruler_suite();  ///< RULER (Hsieh et al., COLM 2024): 13 tasks.
Suite niah_suite();   ///< Needle in a haystack, as in the ReST-KV code: lengths by depths.

}  // namespace restkv::eval
