#pragma once

#include <cstddef>

#include "base/threads.h"

namespace restkv {

/// Runs `work` on a new thread with a stack of `bytes`, waits for it and rethrows its exceptions.
/// For recursion whose depth grows with its input. The stack takes memory only where it is touched.
/// Throws `Error` (kInput) if the system refuses the address space or the thread.
void run_on_big_stack(size_t bytes, FunctionRef<void()> work);

}  // namespace restkv
