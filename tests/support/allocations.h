#pragma once

#include <cstddef>

namespace restkv::testing {

/// Number of calls of operator new so far, in all threads. Replaces the operators new of the test
/// program by counting ones.
size_t allocations();

}  // namespace restkv::testing
