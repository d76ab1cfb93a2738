#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "restkv/error.h"

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
/// behalf of all; both end the process. Where no thread can be had, the system ends the process,
/// and that is said. A reader that has gone away and a limit on the size of files (SIGPIPE,
/// SIGXFSZ) show as write errors.
void take_signals();

/// From here on the first Ctrl-C or SIGTERM sets a flag, cleared now, instead of ending the
/// process. To be called when work begins that looks at the flag: until then nothing would answer.
void catch_interrupts();
/// From here on Ctrl-C does no more than to set the flag, cleared now, however often it is pressed:
/// for one who talks at a terminal and has a conversation to lose. SIGTERM ends the process. Throws
/// `Error` (kUnsupported) if there is no thread that waits for signals.
void hold_interrupts();
/// From here on they end the process again: nobody looks at the flag any more. One that came before
/// has set it.
void release_interrupts();
bool interrupted();

/// Standard output cannot be written. Whoever catches `Error` to go on must let this pass.
class OutputError : public Error {
 public:
  explicit OutputError(int error);
  /// Whether nobody reads any more, as in `restkv eval --list | head -1`.
  [[nodiscard]] bool reader_has_gone() const { return reader_has_gone_; }

 private:
  bool reader_has_gone_;
};

/// Writes `printable` text to standard output. Throws `OutputError` if that fails.
void print(std::string_view text);
/// What a model says: the same at a terminal; byte for byte to a file or a pipe.
void print_answer(std::string_view text);
/// Writes a `printable` line to standard error: everything but what was asked for.
void say(std::string_view line);
/// Says that something is not as one might think, but goes on.
void notice(std::string_view text);

/// Runs a program's `action`, which returns an exit code, and says in one line, begun by `name`,
/// what ends it otherwise. When the reader of standard output has gone, the process ends as others
/// do that the system ends with SIGPIPE: without a word.
int run_main(std::string_view name, const std::function<int()>& action);

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
