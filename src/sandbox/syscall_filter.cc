#include "sandbox/syscall_filter.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <span>

#include "restkv/error.h"

namespace restkv::eval {
namespace {

/// System calls that neither reach beyond the process nor change a file. Excluded, though often
/// considered harmless, are: memfd_create (memory beyond the limit), chmod, chown, utime and xattrs
/// (unknown to Landlock), inotify and leases (watch and delay others), io_setup (a shared
/// resource), sendmsg (can name a receiver or pass descriptors), sched_* with a process id,
/// vmsplice.
constexpr std::array kHarmless{
    // descriptors and their reads and writes
    SCMP_SYS(read), SCMP_SYS(readv), SCMP_SYS(pread64), SCMP_SYS(preadv), SCMP_SYS(preadv2),
    SCMP_SYS(write), SCMP_SYS(writev), SCMP_SYS(pwrite64), SCMP_SYS(pwritev), SCMP_SYS(pwritev2),
    SCMP_SYS(lseek), SCMP_SYS(_llseek), SCMP_SYS(sendfile), SCMP_SYS(sendfile64),
    SCMP_SYS(copy_file_range), SCMP_SYS(fadvise64), SCMP_SYS(close), SCMP_SYS(close_range),
    SCMP_SYS(dup), SCMP_SYS(dup2), SCMP_SYS(dup3), SCMP_SYS(pipe), SCMP_SYS(pipe2), SCMP_SYS(poll),
    SCMP_SYS(ppoll), SCMP_SYS(select), SCMP_SYS(_newselect), SCMP_SYS(pselect6),
    SCMP_SYS(epoll_create), SCMP_SYS(epoll_create1), SCMP_SYS(epoll_ctl), SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait), SCMP_SYS(epoll_pwait2), SCMP_SYS(eventfd), SCMP_SYS(eventfd2),
    // reading files
    SCMP_SYS(stat), SCMP_SYS(stat64), SCMP_SYS(lstat), SCMP_SYS(lstat64), SCMP_SYS(fstat),
    SCMP_SYS(fstat64), SCMP_SYS(newfstatat), SCMP_SYS(fstatat64), SCMP_SYS(statx), SCMP_SYS(access),
    SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(readlinkat),
    SCMP_SYS(getdents), SCMP_SYS(getdents64), SCMP_SYS(getcwd), SCMP_SYS(chdir), SCMP_SYS(fchdir),
    SCMP_SYS(statfs), SCMP_SYS(fstatfs), SCMP_SYS(umask),
    // memory
    SCMP_SYS(brk), SCMP_SYS(mmap), SCMP_SYS(mmap2), SCMP_SYS(munmap), SCMP_SYS(mremap),
    SCMP_SYS(mprotect), SCMP_SYS(madvise), SCMP_SYS(msync), SCMP_SYS(mincore),
    // the process and its threads
    SCMP_SYS(execve), SCMP_SYS(exit), SCMP_SYS(exit_group), SCMP_SYS(wait4), SCMP_SYS(waitid),
    SCMP_SYS(getpid), SCMP_SYS(gettid), SCMP_SYS(getppid), SCMP_SYS(getpgid), SCMP_SYS(getpgrp),
    SCMP_SYS(getsid), SCMP_SYS(getuid), SCMP_SYS(geteuid), SCMP_SYS(getgid), SCMP_SYS(getegid),
    SCMP_SYS(getresuid), SCMP_SYS(getresgid), SCMP_SYS(getgroups), SCMP_SYS(capget),
    SCMP_SYS(getrlimit), SCMP_SYS(ugetrlimit), SCMP_SYS(setrlimit), SCMP_SYS(getrusage),
    SCMP_SYS(times), SCMP_SYS(uname), SCMP_SYS(sysinfo), SCMP_SYS(getcpu), SCMP_SYS(arch_prctl),
    SCMP_SYS(set_tid_address), SCMP_SYS(set_robust_list), SCMP_SYS(rseq), SCMP_SYS(futex),
    SCMP_SYS(sched_yield), SCMP_SYS(sched_getaffinity), SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler), SCMP_SYS(sched_get_priority_max),
    SCMP_SYS(sched_get_priority_min), SCMP_SYS(getrandom),
    // its own signals
    SCMP_SYS(rt_sigaction), SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigpending), SCMP_SYS(rt_sigtimedwait), SCMP_SYS(rt_sigsuspend),
    SCMP_SYS(sigreturn), SCMP_SYS(sigaltstack), SCMP_SYS(restart_syscall), SCMP_SYS(pause),
    SCMP_SYS(alarm), SCMP_SYS(setitimer), SCMP_SYS(getitimer),
    // time
    SCMP_SYS(time), SCMP_SYS(gettimeofday), SCMP_SYS(clock_gettime), SCMP_SYS(clock_getres),
    SCMP_SYS(nanosleep), SCMP_SYS(clock_nanosleep), SCMP_SYS(clock_gettime64),
    SCMP_SYS(clock_getres_time64), SCMP_SYS(clock_nanosleep_time64), SCMP_SYS(futex_time64),
    SCMP_SYS(ppoll_time64), SCMP_SYS(pselect6_time64), SCMP_SYS(rt_sigtimedwait_time64),
    // the one pair of sockets below
    SCMP_SYS(recvfrom), SCMP_SYS(shutdown), SCMP_SYS(getsockname), SCMP_SYS(getpeername),
    SCMP_SYS(getsockopt)};

/// System calls that change files, by name or by a descriptor opened for writing.
constexpr std::array kChangesFiles{
    SCMP_SYS(open),      SCMP_SYS(openat),     SCMP_SYS(openat2),   SCMP_SYS(creat),
    SCMP_SYS(mkdir),     SCMP_SYS(mkdirat),    SCMP_SYS(rmdir),     SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),  SCMP_SYS(rename),     SCMP_SYS(renameat),  SCMP_SYS(renameat2),
    SCMP_SYS(link),      SCMP_SYS(linkat),     SCMP_SYS(symlink),   SCMP_SYS(symlinkat),
    SCMP_SYS(truncate),  SCMP_SYS(truncate64), SCMP_SYS(ftruncate), SCMP_SYS(ftruncate64),
    SCMP_SYS(fallocate), SCMP_SYS(fsync),      SCMP_SYS(fdatasync), SCMP_SYS(flock)};

struct Release {
  void operator()(void* context) const { seccomp_release(context); }
};

void check(int result, const char* step) {
  if (result == 0) return;
  throw Error(ErrorCode::kUnsupported, fmt::format("cannot make the filter of system calls: {}: {}",
                                                   step, std::strerror(-result)));
}

class Filter {
 public:
  Filter() : context_(seccomp_init(SCMP_ACT_ERRNO(ENOSYS))) {
    if (context_ == nullptr) check(-ENOSYS, "seccomp_init");
  }
  void allow(int call, std::span<const scmp_arg_cmp> arguments = {}) {
    add(SCMP_ACT_ALLOW, call, arguments);
  }
  /// Allows a call whose argument is one of several. Only 32 bits are compared, as the kernel
  /// ignores the others.
  void allow_some(int call, unsigned argument, std::initializer_list<uint32_t> values) {
    for (const uint32_t value : values) allow(call, {{equal(argument, value)}});
  }
  void add(uint32_t action, int call, std::span<const scmp_arg_cmp> arguments) {
    check(seccomp_rule_add_array(context_.get(), action, call,
                                 static_cast<unsigned>(arguments.size()), arguments.data()),
          "seccomp_rule_add");
  }

  /// libseccomp exports programs to descriptors only.
  [[nodiscard]] std::vector<sock_filter> exported() const {
    const int file = memfd_create("filter", MFD_CLOEXEC);
    if (file < 0) check(-errno, "memfd_create");
    std::unique_ptr<const int, void (*)(const int*)> close_file(&file,
                                                                [](const int* f) { close(*f); });
    check(seccomp_export_bpf(context_.get(), file), "seccomp_export_bpf");
    const off_t size = lseek(file, 0, SEEK_END);
    std::vector<sock_filter> program(static_cast<size_t>(size) / sizeof(sock_filter));
    if (pread(file, program.data(), static_cast<size_t>(size), 0) != size) check(-EIO, "pread");
    return program;
  }

  static scmp_arg_cmp masked(unsigned argument, uint64_t mask, uint64_t value) {
    return {.arg = argument, .op = SCMP_CMP_MASKED_EQ, .datum_a = mask, .datum_b = value};
  }
  static scmp_arg_cmp equal(unsigned argument, uint32_t value) {
    return masked(argument, 0xffffffff, value);
  }

 private:
  std::unique_ptr<void, Release> context_;
};

/// `flags` is the index of the argument.
void allow_reading(Filter& filter, int open, unsigned flags) {
  constexpr std::array<uint64_t, 4> kWriting{O_WRONLY, O_RDWR, O_CREAT, O_TRUNC};
  uint64_t any = 0;
  for (const uint64_t flag : kWriting) {
    any |= flag;
    filter.add(SCMP_ACT_ERRNO(EROFS), open, {{Filter::masked(flags, flag, flag)}});
  }
  filter.allow(open, {{Filter::masked(flags, any, 0)}});
}

}  // namespace

std::vector<sock_filter> make_syscall_filter(bool has_files) {
  Filter filter;
  for (const int call : kHarmless) filter.allow(call);
  if (has_files) {
    for (const int call : kChangesFiles) filter.allow(call);
  } else {
    allow_reading(filter, SCMP_SYS(open), 1);
    allow_reading(filter, SCMP_SYS(openat), 2);
  }

  // Allows threads, not processes. A filter cannot read the arguments of clone3, which are in
  // memory; libraries fall back to clone without it.
  filter.allow(SCMP_SYS(clone), {{Filter::masked(0, CLONE_THREAD, CLONE_THREAD)}});
  // Its own limits (id 0).
  filter.allow(SCMP_SYS(prlimit64), {{Filter::equal(0, 0)}});
  // Allows names and queries of privileges. Excludes signals at the parent's end, permission to
  // trace, and further filters.
  filter.allow_some(SCMP_SYS(prctl), 0,
                    {PR_SET_NAME, PR_GET_NAME, PR_GET_NO_NEW_PRIVS, PR_SET_VMA});
  // Excludes owners, signals, leases and notifications of descriptors, and sizes of pipes.
  for (const int call : {SCMP_SYS(fcntl), SCMP_SYS(fcntl64)}) {
    filter.allow_some(call, 1,
                      {F_DUPFD, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL, F_SETFL, F_GETLK,
                       F_SETLK, F_SETLKW, F_GETPIPE_SZ});
  }
  filter.allow_some(SCMP_SYS(ioctl), 1, {TCGETS, TIOCGWINSZ, FIONBIO, FIONREAD, FIOCLEX, FIONCLEX});
  // asyncio wakes itself by such a pair. Datagrams are excluded, because they can name receivers.
  constexpr uint64_t kKind = ~uint64_t{SOCK_CLOEXEC | SOCK_NONBLOCK} & 0xffffffff;
  filter.allow(SCMP_SYS(socketpair),
               {{Filter::equal(0, AF_UNIX), Filter::masked(1, kKind, SOCK_STREAM)}});
  filter.allow(SCMP_SYS(sendto), {{{.arg = 4, .op = SCMP_CMP_EQ, .datum_a = 0, .datum_b = 0}}});
  return filter.exported();
}

}  // namespace restkv::eval
