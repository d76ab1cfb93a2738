#pragma once

#include <linux/sched.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>

namespace restkv::eval {

struct NewProcess {
  pid_t pid = -1;   ///< 0: this is it.
  int handle = -1;  ///< A descriptor that becomes readable when the process ends.
};

/// Like `fork`, with more flags of clone. It bypasses the C library, which is correct for processes
/// that only make system calls.
inline NewProcess fork_with(uint64_t more) {
  NewProcess process;
  const auto flags = static_cast<unsigned long>(more | CLONE_PIDFD | SIGCHLD);
  process.pid =
      static_cast<pid_t>(syscall(SYS_clone, flags, nullptr, &process.handle, nullptr, 0UL));
  return process;
}

}  // namespace restkv::eval
