#include "sandbox/confine.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/mount.h>
#include <linux/seccomp.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <span>

#include "sandbox/messages.h"
#include "sandbox/users.h"

namespace restkv::eval {
namespace {

// System calls are made by number: some wrappers of the C library (setresuid, for instance) first
// contact other threads, which this process has recorded but does not have.

constexpr unsigned long kDetach = 2;  // MNT_DETACH

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
  step(syscall(SYS_mount, "tmpfs", "/tmp", "tmpfs", MS_NOSUID | MS_NODEV, "size=64k,mode=755"),
       "mount root");
  step(chdir("/tmp"), "enter root");
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

/// Executing a program gives root all capabilities of this set, so they are dropped. For other
/// users a failure is harmless.
void drop_capabilities() {
  for (int capability = 0; prctl(PR_CAPBSET_READ, capability) >= 0; ++capability) {
    prctl(PR_CAPBSET_DROP, capability);
  }
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

/// Permits the files of the tree of `make_root` by the same names, also without such a tree.
void lock_files(const Steps& step, const Confinement& c) {
  const int rules = make_landlock_rules(c.landlock);
  step(rules, "landlock_create_ruleset");
  for (const RootEntry& entry : c.root) {
    if (entry.kind == RootEntry::Kind::kLink) continue;
    const bool folder = entry.kind == RootEntry::Kind::kFolder;
    step(add_landlock_rule(rules, entry.source.c_str(),
                           folder ? c.landlock.read_only() : c.landlock.device()),
         "landlock_add_rule");
  }
  if (c.layers.own_root) {
    step(add_landlock_rule(rules, "/tmp", c.landlock.all()), "landlock_add_rule");
  }
  step(obey_landlock_rules(rules), "landlock_restrict_self");
}

void filter_system_calls(const Steps& step, std::span<const sock_filter> filter) {
  sock_fprog program{};
  program.len = static_cast<unsigned short>(filter.size());
  program.filter = const_cast<sock_filter*>(filter.data());  // the kernel only reads it
  step(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), "seccomp");
}

}  // namespace

void Steps::operator()(long result, const char* step) const {
  if (result >= 0) return;
  KeeperMessage message{.kind = KeeperMessage::Kind::kFailed, .layer = layer_, .value = errno};
  for (size_t i = 0; i + 1 < message.step.size() && step[i] != '\0'; ++i) {
    message.step[i] = step[i];
  }
  tell(control_, message);
  _exit(1);
}

void confine(const Confinement& c, int control) {
  const Steps step(control, Layer::kNone);
  if (c.drop_root) become_nobody(step);
  step(prctl(PR_SET_PDEATHSIG, SIGKILL), "PR_SET_PDEATHSIG");
  umask(077);
  if (c.layers.own_root) {
    make_root(Steps(control, Layer::kOwnRoot), c);
  } else {
    step(chdir("/"), "enter /");
  }
  drop_capabilities();
  step(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), "no_new_privs");
  if (c.layers.landlock) lock_files(Steps(control, Layer::kLandlock), c);
  set_limits(step, c.limits);
  if (c.layers.system_calls) filter_system_calls(Steps(control, Layer::kSystemCalls), c.filter);
  const char* const no_environment = nullptr;
  execve(c.arguments[0], const_cast<char* const*>(c.arguments),
         const_cast<char* const*>(&no_environment));
  step(-1, "execve");
  _exit(1);
}

}  // namespace restkv::eval
