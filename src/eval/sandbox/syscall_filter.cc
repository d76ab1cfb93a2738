#include "eval/sandbox/syscall_filter.h"

#include <fmt/format.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <memory>

#include "restkv/error.h"

namespace restkv::eval {
namespace {

// A process that is alone needs none of these. Without fork nothing outlives it and nothing
// multiplies; without socket there is no network, whatever the namespace.
constexpr std::array kRefused{
    // processes and signals
    SCMP_SYS(fork), SCMP_SYS(vfork), SCMP_SYS(kill), SCMP_SYS(tkill), SCMP_SYS(tgkill),
    SCMP_SYS(rt_sigqueueinfo), SCMP_SYS(rt_tgsigqueueinfo), SCMP_SYS(pidfd_open),
    SCMP_SYS(pidfd_send_signal), SCMP_SYS(pidfd_getfd), SCMP_SYS(setsid), SCMP_SYS(setpgid),
    SCMP_SYS(ptrace), SCMP_SYS(process_vm_readv), SCMP_SYS(process_vm_writev), SCMP_SYS(kcmp),
    SCMP_SYS(setpriority), SCMP_SYS(ioprio_set), SCMP_SYS(sched_setscheduler),
    // network and memory shared between processes
    SCMP_SYS(socket), SCMP_SYS(io_uring_setup), SCMP_SYS(shmget), SCMP_SYS(msgget),
    SCMP_SYS(semget), SCMP_SYS(mq_open),
    // file trees and namespaces
    SCMP_SYS(mount), SCMP_SYS(umount2), SCMP_SYS(pivot_root), SCMP_SYS(chroot), SCMP_SYS(unshare),
    SCMP_SYS(setns), SCMP_SYS(open_tree), SCMP_SYS(move_mount), SCMP_SYS(fsopen),
    SCMP_SYS(fsconfig), SCMP_SYS(fsmount), SCMP_SYS(fspick), SCMP_SYS(mount_setattr),
    SCMP_SYS(open_by_handle_at), SCMP_SYS(name_to_handle_at), SCMP_SYS(fanotify_init),
    // the machine
    SCMP_SYS(bpf), SCMP_SYS(perf_event_open), SCMP_SYS(userfaultfd), SCMP_SYS(keyctl),
    SCMP_SYS(add_key), SCMP_SYS(request_key), SCMP_SYS(init_module), SCMP_SYS(finit_module),
    SCMP_SYS(delete_module), SCMP_SYS(kexec_load), SCMP_SYS(kexec_file_load), SCMP_SYS(reboot),
    SCMP_SYS(swapon), SCMP_SYS(swapoff), SCMP_SYS(settimeofday), SCMP_SYS(clock_settime),
    SCMP_SYS(clock_adjtime), SCMP_SYS(adjtimex), SCMP_SYS(acct), SCMP_SYS(quotactl),
    SCMP_SYS(syslog), SCMP_SYS(iopl), SCMP_SYS(ioperm), SCMP_SYS(modify_ldt), SCMP_SYS(vhangup),
    SCMP_SYS(personality)};

struct Release {
  void operator()(void* context) const { seccomp_release(context); }
};

void check(int result, const char* step) {
  if (result == 0) return;
  throw Error(ErrorCode::kUnsupported, fmt::format("cannot make the filter of system calls: {}: {}",
                                                   step, std::strerror(-result)));
}

/// libseccomp hands programs out through descriptors only.
std::vector<sock_filter> exported(scmp_filter_ctx context) {
  const int file = memfd_create("filter", MFD_CLOEXEC);
  if (file < 0) check(-errno, "memfd_create");
  std::unique_ptr<const int, void (*)(const int*)> close_file(&file,
                                                              [](const int* f) { close(*f); });
  check(seccomp_export_bpf(context, file), "seccomp_export_bpf");
  const off_t size = lseek(file, 0, SEEK_END);
  std::vector<sock_filter> program(static_cast<size_t>(size) / sizeof(sock_filter));
  if (pread(file, program.data(), static_cast<size_t>(size), 0) != size) check(-EIO, "pread");
  return program;
}

}  // namespace

std::vector<sock_filter> make_syscall_filter() {
  const std::unique_ptr<void, Release> context(seccomp_init(SCMP_ACT_ALLOW));
  if (context == nullptr) check(-ENOSYS, "seccomp_init");
  const uint32_t refuse = SCMP_ACT_ERRNO(EPERM);
  for (const int call : kRefused) {
    check(seccomp_rule_add(context.get(), refuse, call, 0), "seccomp_rule_add");
  }
  // Threads are fine. The arguments of clone3 lie in memory, where a filter cannot look; libraries
  // fall back to clone where it does not exist.
  const scmp_arg_cmp no_thread{
      .arg = 0, .op = SCMP_CMP_MASKED_EQ, .datum_a = CLONE_THREAD, .datum_b = 0};
  check(seccomp_rule_add_array(context.get(), refuse, SCMP_SYS(clone), 1, &no_thread), "clone");
  check(seccomp_rule_add(context.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0), "clone3");
  // A process may ask for its own limits, by the id 0.
  const scmp_arg_cmp others{.arg = 0, .op = SCMP_CMP_NE, .datum_a = 0, .datum_b = 0};
  check(seccomp_rule_add_array(context.get(), refuse, SCMP_SYS(prlimit64), 1, &others),
        "prlimit64");
  return exported(context.get());
}

}  // namespace restkv::eval
