#pragma once

#include <chrono>
#include <cstddef>
#include <string>
#include <string_view>

namespace restkv::cli {

/// Exit codes of every command.
enum ExitCode : int {
  kSuccess = 0,
  kFailure = 1,            ///< Input, model or output could not be used.
  kUsage = 2,              ///< The command line is wrong.
  kInterruptedExit = 130,  ///< Ctrl-C (128 + SIGINT).
};

/// To be called first in `main`: no thread that computes may ever run a signal handler. oneDNN's
/// matrix kernels point the stack pointer into heap memory while they work, and the frame of a
/// handler would overwrite what lies below. One thread therefore waits for Ctrl-C and SIGTERM on
/// behalf of all; both end the process. A reader that has gone away shows as a write error.
void take_signals();

/// From here on the first Ctrl-C or SIGTERM sets a flag, cleared now, instead of ending the
/// process. To be called when work begins that looks at the flag: until then nothing would answer.
void catch_interrupts();
/// From here on they end the process again: nobody looks at the flag any more.
void release_interrupts();
bool interrupted();

/// Writes to standard output and flushes. Throws `Error` (kIo) if that fails.
void print(std::string_view text);

/// Sets the number of threads: 0 means one per processor. Throws `Error` (kInvalidArgument) outside
/// [0, 4 x processors].
void use_threads(int threads);

/// Measures time from its construction on.
class Stopwatch {
 public:
  [[nodiscard]] double seconds() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
  }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Largest resident memory of this process so far.
size_t peak_resident_bytes();

/// "AMD EPYC ..."
std::string processor_name();
/// The same with "..., 2 threads".
std::string machine_description();

/// 1536 -> "1.5 KiB"
std::string human_bytes(double bytes);

}  // namespace restkv::cli
