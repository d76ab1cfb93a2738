#include "eval/sandbox/confine.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

namespace restkv::eval {
namespace {

// System calls by number: the C library's wrappers of some (setresuid, for one) talk to the other
// threads first, of which this process has none but remembers many.

constexpr unsigned long kDetach = 2;  // MNT_DETACH

/// Ends the process, telling the other end of `control` why, unless `result` is a success.
class Steps {
 public:
  explicit Steps(int control) : control_(control) {}
  void operator()(long result, const char* step) const {
    if (result >= 0) return;
    ConfinementFailure failure;
    failure.error = errno;
    failure.step.fill('\0');
    for (size_t i = 0; i + 1 < failure.step.size() && step[i] != '\0'; ++i) {
      failure.step[i] = step[i];
    }
    [[maybe_unused]] const ssize_t written = write(control_, &failure, sizeof failure);
    _exit(1);
  }

 private:
  int control_;
};

/// Mounts made here end with the namespace.
void set_mount_flags(const Steps& step, const char* path, uint64_t set, bool recursive) {
  mount_attr attributes{};
  attributes.attr_set = set;
  step(syscall(SYS_mount_setattr, AT_FDCWD, path, recursive ? AT_RECURSIVE : 0, &attributes,
               sizeof attributes),
       "mount_setattr");
}

void make_root(const Steps& step, const Confinement& c) {
  const char* no_type = nullptr;
  step(syscall(SYS_mount, nullptr, "/", no_type, MS_PRIVATE | MS_REC, nullptr), "private mounts");
  step(syscall(SYS_mount, "tmpfs", c.folder.c_str(), "tmpfs", MS_NOSUID | MS_NODEV,
               "size=64k,mode=755"),
       "mount root");
  step(chdir(c.folder.c_str()), "enter root");
  step(mkdir("dev", 0755), "mkdir dev");
  for (const RootEntry& entry : c.root) {
    const char* target = entry.target.c_str();
    if (entry.kind == RootEntry::Kind::kLink) {
      step(symlink(entry.source.c_str(), target), "symlink");
      continue;
    }
    if (entry.kind == RootEntry::Kind::kFolder) {
      step(mkdir(target, 0755), "mkdir");
    } else {
      step(mknod(target, S_IFREG | 0444, 0), "mknod");
    }
    step(syscall(SYS_mount, entry.source.c_str(), target, no_type, MS_BIND | MS_REC, nullptr),
         "bind mount");
    const bool folder = entry.kind == RootEntry::Kind::kFolder;
    set_mount_flags(step, target,
                    MOUNT_ATTR_NOSUID | (folder ? MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV : 0), true);
  }
  step(mkdir("tmp", 0700), "mkdir tmp");
  step(syscall(SYS_mount, "tmpfs", "tmp", "tmpfs", MS_NOSUID | MS_NODEV, c.tmpfs_options.c_str()),
       "mount tmp");
  step(syscall(SYS_pivot_root, ".", "."), "pivot_root");
  step(syscall(SYS_umount2, ".", kDetach), "umount");  // the old root, stacked on the new one
  set_mount_flags(step, "/", MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV, false);
  step(chdir("/tmp"), "enter tmp");
}

void become_nobody(const Steps& step) {
  step(syscall(SYS_setgroups, 0, nullptr), "setgroups");
  step(syscall(SYS_setresgid, kNobody, kNobody, kNobody), "setresgid");
  step(syscall(SYS_setresuid, kNobody, kNobody, kNobody), "setresuid");
}

/// Starting a program gives root, unlike others, all capabilities of this set. Whether it may be
/// changed does not matter for others.
void drop_capabilities() {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; ++capability) {
    prctl(PR_CAPBSET_DROP, capability);
  }
}

void reset_signals() {
  struct sigaction standard {};
  standard.sa_handler = SIG_DFL;
  for (int signal = 1; signal < NSIG; ++signal) sigaction(signal, &standard, nullptr);
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, nullptr);
}

/// Puts the descriptors in their places and closes all others; returns where `control` is now.
int arrange_descriptors(const Steps& step, const Confinement& c) {
  // First out of the way of each other's places.
  constexpr int kAside = 10;
  const std::array from{c.null, c.null, c.null, c.report, c.source, c.control};
  std::array<int, from.size()> aside{};
  for (size_t i = 0; i < from.size(); ++i) {
    aside[i] = fcntl(from[i], F_DUPFD_CLOEXEC, kAside);
    step(aside[i], "descriptors");
  }
  const int last = static_cast<int>(from.size()) - 1;
  for (int to = 0; to < last; ++to) step(dup2(aside[to], to), "dup2");
  step(dup3(aside[last], last, O_CLOEXEC), "dup3");
  step(syscall(SYS_close_range, last + 1, ~0U, 0), "close_range");
  return last;
}

void limit(const Steps& step, __rlimit_resource resource, size_t value, const char* name) {
  const rlimit both{value, value};
  step(setrlimit(resource, &both), name);
}

void set_limits(const Steps& step, const SandboxLimits& limits) {
  const auto seconds = static_cast<size_t>((limits.wall.count() + 999) / 1000);
  limit(step, RLIMIT_CPU, seconds + 1, "RLIMIT_CPU");
  limit(step, RLIMIT_FSIZE, limits.file_bytes, "RLIMIT_FSIZE");
  limit(step, RLIMIT_NPROC, limits.processes, "RLIMIT_NPROC");
  limit(step, RLIMIT_NOFILE, 64, "RLIMIT_NOFILE");
  limit(step, RLIMIT_CORE, 0, "RLIMIT_CORE");
  limit(step, RLIMIT_AS, limits.memory_bytes, "RLIMIT_AS");
}

void filter_system_calls(const Steps& step, std::span<const sock_filter> filter) {
  sock_fprog program{};
  program.len = static_cast<unsigned short>(filter.size());
  program.filter = const_cast<sock_filter*>(filter.data());  // the kernel only reads it
  step(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "seccomp");
}

}  // namespace

void confine(const Confinement& c) {
  reset_signals();
  const Steps before(c.control);
  before(setsid(), "setsid");
  char go = 0;  // comes when the user namespace has its users
  if (read(c.control, &go, 1) != 1) _exit(1);
  if (c.drop_root) become_nobody(before);
  before(prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
  umask(077);
  if (c.layers.own_root) {
    make_root(before, c);
  } else {
    before(chdir(c.folder.c_str()), "enter folder");
  }
  const Steps step(arrange_descriptors(before, c));
  drop_capabilities();
  step(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
  set_limits(step, c.limits);
  if (c.layers.system_calls) filter_system_calls(step, c.filter);
  const char* const no_environment = nullptr;
  execve(c.arguments[0], const_cast<char* const*>(c.arguments),
         const_cast<char* const*>(&no_environment));
  step(-1, "execve");
  _exit(1);
}

}  // namespace restkv::eval
