#pragma once

#include <cstddef>
#include <functional>
#include <string>
#include <string_view>

#include "cli/colours.h"
#include "restkv/error.h"

namespace restkv::cli {

/// Exit codes of every command.
enum ExitCode : int {
  kSuccess = 0,
  kFailure = 1,            ///< Input, model or output could not be used.
  kUsage = 2,              ///< The command line is wrong.
  kInterruptedExit = 130,  ///< Ctrl-C (128 + SIGINT).
};

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
/// A help text: `print`, with its headings in bold at a terminal that shows colours.
void print_page(std::string_view text);
/// What a model says: as `print` at a terminal; byte for byte to a file or a pipe.
void print_answer(std::string_view text);
/// Writes a `printable` line to standard error: everything but what was asked for.
void say(std::string_view line);
/// The same in the colours of its tone, at a terminal that shows them.
void say(Tone tone, std::string_view line);
/// Writes text to standard error that is printable and may have colours already.
void say_coloured(std::string_view text);
/// Says that something is not as one might think, but goes on.
void notice(std::string_view text);

/// Runs a program's `action`, which returns an exit code, and says in one line, begun by `name`,
/// what ends it otherwise. When the reader of standard output has gone, the process ends as others
/// do that the system ends with SIGPIPE: without a word.
int run_main(std::string_view name, const std::function<int()>& action);

/// Sets the number of threads: 0 means one per processor; so does, with a notice, more than four
/// per processor. `processes` on this machine share its processors, unless each has its own.
/// Throws `Error` (kInvalidArgument) below 0.
void use_threads(int threads, size_t processes = 1);

}  // namespace restkv::cli
