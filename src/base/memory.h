#pragma once

#include <cstddef>
#include <string>

namespace restkv {

/// Bytes that this process can allocate before the system swaps or kills a process, within the
/// limits of the machine and the container. The page cache counts as free. SIZE_MAX if unknown.
/// `root` is the folder of /proc and /sys.
size_t available_memory(const std::string& root = "");

/// Gives the system back what the allocator keeps of memory that was freed. Takes milliseconds, in
/// which other threads may wait for memory: for moments when there is nothing to do, or when very
/// much was freed. Does nothing with allocators that cannot be asked.
void return_free_memory();

}  // namespace restkv
