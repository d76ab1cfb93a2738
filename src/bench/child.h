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

/// Runs this program with other arguments (without the program's name) and `input` as standard
/// input, and waits for its end. `what` names the work in error messages. `stopped` is polled; true
/// ends the process. Throws `Error`: kInput if the process fails (it prints the reason to standard
/// error) or is killed, kIo if it cannot be started, kInterrupted if it was stopped.
///
/// Linux counts the caller's memory at the fork as the child's peak, so the caller must use less
/// memory than the child.
ChildResult run_again(std::span<const std::string> arguments, std::string_view input,
                      std::string_view what, const std::function<bool()>& stopped = {});

/// The same with another program: a path, or a name found in PATH.
ChildResult run_program(const std::string& program, std::span<const std::string> arguments,
                        std::string_view input, std::string_view what,
                        const std::function<bool()>& stopped = {});

}  // namespace restkv::bench
