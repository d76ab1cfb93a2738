#include "sandbox/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <ctime>

#include "sandbox/fork.h"
#include "sandbox/messages.h"

namespace restkv::eval {
namespace {

constexpr int kControl = 5;
constexpr int kGrace = 2000;  // milliseconds for restkv to end a late program

void reset_signals() {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &standard, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

/// Puts the descriptors in their places and closes all others.
void arrange(const KeeperDescriptors& descriptors) {
  const Steps step(descriptors.control, Layer::kNone);
  // First moves them out of the way of the final numbers.
  constexpr int kAside = 10;
  const std::array from{descriptors.null,   descriptors.null,   descriptors.null,
                        descriptors.report, descriptors.source, descriptors.control};
  std::array<int, from.size()> aside{};
  for (size_t i = 0; i < from.size(); ++i) {
    aside[i] = fcntl(from[i], F_DUPFD_CLOEXEC, kAside);
    step(aside[i], "descriptors");
  }
  for (int to = 0; to < kControl; ++to) step(dup2(aside[to], to), "dup2");
  step(dup3(aside[kControl], kControl, O_CLOEXEC), "dup3");
  step(syscall(SYS_close_range, kControl + 1, ~0U, 0), "close_range");
}

/// Kills the children of this process; returns their number.
int kill_children() {
  const int file = open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  int found = 0;
  pid_t pid = 0;
  std::array<char, 512> block;
  for (ssize_t n = 0; (n = read(file, block.data(), block.size())) > 0;) {
    for (ssize_t i = 0; i < n; ++i) {
      if (block[i] >= '0' && block[i] <= '9') {
        pid = pid * 10 + (block[i] - '0');
      } else if (pid > 0) {  // a space follows each
        kill(pid, SIGKILL);
        pid = 0;
        ++found;
      }
    }
  }
  close(file);
  return found;
}

/// Kills all descendants: orphans become children of this process (PR_SET_CHILD_SUBREAPER),
/// generation after generation.
void end_descendants() {
  while (kill_children() > 0) {
    while (waitpid(-1, nullptr, WNOHANG) > 0) {
    }
    const timespec moment{0, 1'000'000};
    nanosleep(&moment, nullptr);
  }
}

}  // namespace

void keep(const Confinement& c, const KeeperDescriptors& descriptors) {
  reset_signals();
  setsid();  // fails only for the leader of a process group, which a new process is not
  arrange(descriptors);
  prctl(PR_SET_NAME, "restkv-keeper");
  const Steps step(kControl, Layer::kNone);

  // While this is 0, as it is in restkv, only root can write this process's user map.
  if (c.layers.namespaces) prctl(PR_SET_DUMPABLE, 1);
  tell(kControl, {.kind = KeeperMessage::Kind::kReady});
  char go = 0;
  if (recv(kControl, &go, 1, 0) != 1) _exit(1);
  prctl(PR_SET_DUMPABLE, 0);

  if (!c.layers.namespaces) step(prctl(PR_SET_CHILD_SUBREAPER, 1), "PR_SET_CHILD_SUBREAPER");
  // Continues when the process has executed Python, or has reported an error.
  const NewProcess process = fork_with(CLONE_VFORK);
  if (process.pid == 0) confine(c, kControl);
  step(process.pid, "clone");
  tell(kControl, {.kind = KeeperMessage::Kind::kStarted});
  syscall(SYS_close_range, 0, kControl - 1, 0);

  std::array<pollfd, 2> events{pollfd{kControl, POLLIN, 0}, pollfd{process.handle, POLLIN, 0}};
  const auto limit = static_cast<int>(c.limits.wall.count()) + kGrace;
  while (poll(events.data(), events.size(), limit) < 0 && errno == EINTR) {
  }
  int status = 0;
  if (events[1].revents != 0 && waitpid(process.pid, &status, 0) == process.pid) {
    tell(kControl, {.kind = KeeperMessage::Kind::kEnded, .value = status});
  }
  // The kernel ends a PID namespace with its first process.
  if (!c.layers.namespaces) {
    syscall(SYS_pidfd_send_signal, process.handle, SIGKILL, nullptr, 0);
    end_descendants();
  }
  _exit(0);
}

}  // namespace restkv::eval
