#pragma once

#include "restkv/error.h"

namespace restkv {

/// In a `catch` block: what was caught as an `Error`. An `Error` is itself, `std::bad_alloc` is
/// kOutOfMemory, a failure of `std::filesystem` kIo, everything else a fault of the program
/// (kInternal).
Error caught_error();

}  // namespace restkv
