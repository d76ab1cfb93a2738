#pragma once

#include "restkv/compress.h"

namespace restkv {

// Every allocation lives in a file of its own and is listed in registry.cc.
Allocation uniform_allocation();

}  // namespace restkv
