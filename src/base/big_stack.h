#pragma once

#include <cstddef>

#include "base/threads.h"

namespace restkv {

/// Runs `work` on a thread of its own with a stack of `bytes` and waits for it; rethrows what it
/// throws. For recursion whose depth grows with its input. The stack costs address space and, of
/// memory, only what is used of it. Throws `Error` (kInput) if the system does not give the address
/// space or the thread.
void run_on_big_stack(size_t bytes, FunctionRef<void()> work);

}  // namespace restkv
