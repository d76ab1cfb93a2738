#pragma once

#include <linux/filter.h>

#include <vector>

namespace restkv::eval {

/// A seccomp program that lets a single process compute, use its own files and threads, and exit.
/// All other system calls fail with ENOSYS: those that make or reach processes, sockets, mounts,
/// signals, and additions of future kernels. With `has_files` the process may change its own files;
/// otherwise it can open files for reading only (EROFS). The program is made in the parent, because
/// the sandboxed process must not allocate. Throws `Error` (kUnsupported) if libseccomp does not
/// know the machine.
std::vector<sock_filter> make_syscall_filter(bool has_files);

}  // namespace restkv::eval
