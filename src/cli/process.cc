#include "cli/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <new>
#include <system_error>
#include <thread>

#include "base/printable.h"
#include "base/threads.h"
#include "cli/signals.h"

namespace restkv::cli {
namespace {

/// Writes all of `text`, also where the other side set the file not to block; errno of a failure.
int write_all(int fd, std::string_view text) {
  while (!text.empty()) {
    const ssize_t written = ::write(fd, text.data(), text.size());
    if (written >= 0) {
      text.remove_prefix(static_cast<size_t>(written));
    } else if (errno == EAGAIN) {
      pollfd end{fd, POLLOUT, 0};
      ::poll(&end, 1, -1);
    } else if (errno != EINTR) {
      return errno;
    }
  }
  return 0;
}

void print_bytes(std::string_view text) {
  if (const int error = write_all(STDOUT_FILENO, text); error != 0) throw OutputError(error);
}

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument:
      return kUsage;
    case ErrorCode::kInterrupted:
      return kInterruptedExit;
    default:
      return kFailure;
  }
}

/// The number of a closed one would go to the next file, for others to read from or write to.
/// Nothing can be written to what is opened here, as to what was closed.
void occupy_standard_streams() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::fcntl(fd, F_GETFD) < 0) (void)::open("/dev/null", O_RDONLY);
  }
}

}  // namespace

OutputError::OutputError(int error)
    : Error(ErrorCode::kIo, fmt::format("cannot write to standard output: {}",
                                        std::generic_category().message(error))),
      reader_has_gone_(error == EPIPE) {}

void print(std::string_view text) { print_bytes(printable(text)); }

void print_answer(std::string_view text) {
  static const bool at_terminal = ::isatty(STDOUT_FILENO) == 1;
  if (at_terminal) {
    print(text);
  } else {
    print_bytes(text);
  }
}

void print_page(std::string_view text) {
  if (!shows_colours(STDOUT_FILENO)) return print(text);
  const std::string page = printable(text);
  std::string out;
  for (std::string_view rest = page; !rest.empty();) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    const bool is_heading = line.ends_with(':') && !line.starts_with(' ');
    out += is_heading ? coloured(Tone::kHeading, line) : std::string(line);
    rest.remove_prefix(line.size());
    if (rest.empty()) break;
    out += '\n';
    rest.remove_prefix(1);
  }
  print_bytes(out);
}

void say(std::string_view line) { write_all(STDERR_FILENO, printable(line) + '\n'); }

void say(Tone tone, std::string_view line) {
  write_all(STDERR_FILENO, coloured_for(STDERR_FILENO, tone, printable(line)) + '\n');
}

void say_coloured(std::string_view text) { write_all(STDERR_FILENO, fmt::format("{}\n", text)); }

namespace {

/// "restkv: text", its beginning in the colours of `tone`.
void say_behind(Tone tone, std::string_view name, std::string_view text) {
  const std::string begin = fmt::format("{}:", name);
  write_all(STDERR_FILENO,
            fmt::format("{} {}\n", coloured_for(STDERR_FILENO, tone, begin), printable(text)));
}

}  // namespace

void notice(std::string_view text) { say_behind(Tone::kNotice, "restkv", text); }

int run_main(std::string_view name, const std::function<int()>& action) {
  // Should ggml abort the process, it would start a debugger to show where.
  ::setenv("GGML_NO_BACKTRACE", "1", 0);
  occupy_standard_streams();
  take_signals();
  std::string message;
  int code = kFailure;
  try {
    return action();
  } catch (const OutputError& e) {
    if (e.reader_has_gone()) end_by(SIGPIPE);
    message = e.what();
  } catch (const Error& e) {
    message = e.what();
    code = exit_code(e.code());
  } catch (const std::bad_alloc&) {
    message =
        "out of memory; use a shorter prompt or a smaller model, or raise the limit (ulimit -v)";
  } catch (const std::filesystem::filesystem_error& e) {
    message = e.what();
  } catch (const std::exception& e) {
    message = fmt::format("unexpected error ({}); please report it with the command", e.what());
  }
  say_behind(Tone::kError, name, message);
  return code;
}

void use_threads(int threads, size_t processes) {
  const int processors = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (threads < 0) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--threads is {}; expected 1 or more, or 0 for one per processor that "
                            "it may use",
                            threads));
  }
  if (threads > 4 * processors) {
    notice(fmt::format("--threads {} is more than {} processors can use; taken as {}", threads,
                       processors, usable_processors()));
    threads = 0;
  }
  if (threads == 0) {
    threads = usable_processors();
    if (processes > 1) {  // which mpirun may have bound to processors of their own
      const int of_machine = static_cast<int>(::sysconf(_SC_NPROCESSORS_ONLN));
      threads = std::clamp(of_machine / static_cast<int>(processes), 1, threads);
    }
  }
  set_num_threads(threads);
}

}  // namespace restkv::cli
