#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <string_view>

namespace restkv::bench {

struct ChildResult {
  std::string output;              ///< What it wrote to standard output.
  size_t peak_resident_bytes = 0;  ///< Of the whole process, as the kernel saw it.
};

/// Runs this program once more with other arguments (the program's name excluded) and `input` as
/// its standard input, and waits for its end. `what` names the work in error messages.
/// Throws `Error`: kInput if the child fails (it has told why on standard error) or is killed, kIo
/// if it cannot be started.
///
/// Linux counts the caller's memory at the moment of the fork as the child's, so the caller must be
/// the smaller one of the two.
ChildResult run_again(std::span<const std::string> arguments, std::string_view input,
                      std::string_view what);

}  // namespace restkv::bench
