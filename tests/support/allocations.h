#pragma once

#include <cstddef>

namespace restkv::testing {

/// Calls of operator new so far, in all threads. A test program that uses this gets counting
/// operators new.
size_t allocations();

}  // namespace restkv::testing
