#pragma once

#include <cstddef>
#include <string>

namespace restkv {

/// Bytes that this process can still get before the system has to swap or to end something: of the
/// machine, and of the container it runs in if that has a limit. What files have been read into
/// counts as free. SIZE_MAX where the system does not say. `root` is where /proc and /sys are.
size_t available_memory(const std::string& root = "");

}  // namespace restkv
