#pragma once

#include <linux/filter.h>

#include <vector>

namespace restkv::eval {

/// A seccomp program that lets a single process compute, use its own files and threads, and end.
/// For such a process no other system call exists (ENOSYS): none to make or reach processes, no
/// sockets, mounts and signals, and nothing that future kernels add. `has_files`: there are files
/// of its own to change; otherwise it can open files for reading only (EROFS).
/// Made here and not in the sandboxed process, where nothing may allocate. Throws `Error`
/// (kUnsupported) if libseccomp does not know the machine.
std::vector<sock_filter> make_syscall_filter(bool has_files);

}  // namespace restkv::eval
