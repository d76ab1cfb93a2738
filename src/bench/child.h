#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace restkv::bench {

struct ChildResult {
  std::string output;              ///< What it wrote to standard output.
  size_t peak_resident_bytes = 0;  ///< Of the whole process, as the kernel saw it.
};

/// Runs this program once more with other arguments (the program's name excluded) and `input` as
/// its standard input, and waits for its end. `what` names the work in error messages; `stopped` is
/// asked every now and then, and true ends the process.
/// Throws `Error`: kInput if it fails (it has told why on standard error) or is killed, kIo if it
/// cannot be started, kInterrupted if it was stopped.
///
/// Linux counts the caller's memory at the moment of the fork as the child's, so the caller must be
/// the smaller one of the two.
ChildResult run_again(std::span<const std::string> arguments, std::string_view input,
                      std::string_view what, const std::function<bool()>& stopped = {});

/// The same with another program: a path, or a name that PATH knows.
ChildResult run_program(const std::string& program, std::span<const std::string> arguments,
                        std::string_view input, std::string_view what,
                        const std::function<bool()>& stopped = {});

}  // namespace restkv::bench
