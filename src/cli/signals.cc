#include "cli/signals.h"

#include <poll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <atomic>
#include <csignal>
#include <mutex>
#include <system_error>
#include <thread>

#include "cli/process.h"
#include "restkv/error.h"

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

}  // namespace

void end_by(int signal) {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, signal);
  std::signal(signal, SIG_DFL);
  pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
  std::raise(signal);
}

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

}  // namespace restkv::cli
