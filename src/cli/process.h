#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace restkv::cli {

/// Exit codes of every command.
enum ExitCode : int {
  kSuccess = 0,
  kFailure = 1,        ///< Input, model or output could not be used.
  kUsage = 2,          ///< The command line is wrong.
  kInterruptedExit = 130,  ///< Ctrl-C (128 + SIGINT).
};

/// From here on Ctrl-C and SIGTERM set a flag instead of ending the process (a second one ends it),
/// and a closed pipe shows as a write error.
void install_signal_handlers();
bool interrupted();

/// Writes to standard output and flushes. Throws `Error` (kIo) if that fails.
void print(std::string_view text);

/// Sets the number of threads: 0 means one per processor. Throws `Error` (kInvalidArgument) outside
/// [0, 4 x processors].
void use_threads(int threads);

/// Largest resident memory of this process so far.
size_t peak_resident_bytes();

/// "AMD EPYC ..., 2 threads"
std::string machine_description();

/// 1536 -> "1.5 KiB"
std::string human_bytes(double bytes);

}  // namespace restkv::cli
