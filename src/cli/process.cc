#include "cli/process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>

#include "base/printable.h"
#include "base/threads.h"

namespace restkv::cli {
namespace {

/// What Ctrl-C and SIGTERM do.
enum class Signals { kEnd, kCatch, kHold };

std::mutex g_mutex;  // of what follows, and of taking signals from g_pending
Signals g_signals = Signals::kEnd;
int g_pending = -1;  // signalfd; -1: no thread waits for signals
std::atomic<bool> g_interrupted{false};

sigset_t signals_taken() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  return signals;
}

/// Ends the process as the signal would have done without this program's doing.
void end_by(int signal) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, signal);
  std::signal(signal, SIG_DFL);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  std::raise(signal);
}

/// Answers the signals that have come. Under the mutex, so that none is answered by rules that came
/// after it.
void answer_signals() {
  signalfd_siginfo info{};
  while (g_pending >= 0 && ::read(g_pending, &info, sizeof info) == sizeof info) {
    const int signal = static_cast<int>(info.ssi_signo);
    const bool first = !g_interrupted;
    const bool held = g_signals == Signals::kHold && signal == SIGINT;
    if (!held && (g_signals != Signals::kCatch || !first)) end_by(signal);
    g_interrupted = true;
  }
}

void wait_for_signals() {
  pollfd pending{g_pending, POLLIN, 0};
  while (true) {
    ::poll(&pending, 1, -1);
    const std::scoped_lock lock(g_mutex);
    answer_signals();
  }
}

/// Signals that came before are answered by the rules of then.
void set_signals(Signals signals, bool clear) {
  const std::scoped_lock lock(g_mutex);
  answer_signals();
  g_signals = signals;
  if (clear) g_interrupted = false;
}

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

void take_signals() {
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);
  const sigset_t signals = signals_taken();
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);  // and in every thread that is started from here
  g_pending = ::signalfd(-1, &signals, SFD_NONBLOCK | SFD_CLOEXEC);
  try {
    if (g_pending >= 0) std::thread(wait_for_signals).detach();
  } catch (const std::system_error&) {
    ::close(g_pending);
    g_pending = -1;
  }
  if (g_pending >= 0) return;
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  notice(
      "no thread can be started to wait for Ctrl-C, which will end the program at once; "
      "raise the limits on processes and memory (ulimit -u, ulimit -v)");
}

void catch_interrupts() { set_signals(Signals::kCatch, true); }

void hold_interrupts() {
  if (g_pending < 0) {
    throw Error(
        ErrorCode::kUnsupported,
        "a conversation at a terminal needs a thread that waits for Ctrl-C, and none can be "
        "started; raise the limits on processes and memory (ulimit -u, ulimit -v)");
  }
  set_signals(Signals::kHold, true);
}

void release_interrupts() { set_signals(Signals::kEnd, false); }

bool interrupted() { return g_interrupted; }

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

void say(std::string_view line) { write_all(STDERR_FILENO, printable(line) + '\n'); }

void notice(std::string_view text) { say(fmt::format("restkv: {}", text)); }

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
  say(fmt::format("{}: {}", name, message));
  return code;
}

void use_threads(int threads) {
  const int processors = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  if (threads < 0 || threads > 4 * processors) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("--threads is {}; expected 1 to {} (this machine has {} processors), "
                            "or 0 for one per processor that it may use",
                            threads, 4 * processors, processors));
  }
  set_num_threads(threads == 0 ? usable_processors() : threads);
}

size_t peak_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<size_t>(usage.ru_maxrss) * 1024;
}

std::string processor_name() {
  std::ifstream info("/proc/cpuinfo");
  for (std::string line; std::getline(info, line);) {
    const size_t colon = line.find(':');
    if (line.rfind("model name", 0) == 0 && colon != std::string::npos) {
      return line.substr(colon + 2);
    }
  }
  return "CPU";
}

std::string machine_description() {
  return fmt::format("{}, {} thread{}", processor_name(), num_threads(),
                     num_threads() == 1 ? "" : "s");
}

std::string human_bytes(double bytes) {
  static constexpr std::array kUnits{"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit + 1 < kUnits.size()) {
    bytes /= 1024;
    ++unit;
  }
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

}  // namespace restkv::cli
