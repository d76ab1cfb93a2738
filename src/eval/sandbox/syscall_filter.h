#pragma once

#include <linux/filter.h>

#include <vector>

namespace restkv::eval {

/// A seccomp program that lets a single process compute and use its own files, and answers EPERM to
/// all that reaches further: processes, signals, sockets, mounts, the kernel's rarer corners.
/// Made here and not in the sandboxed process, where nothing may allocate. Throws `Error`
/// (kUnsupported) if libseccomp does not know the machine.
std::vector<sock_filter> make_syscall_filter();

}  // namespace restkv::eval
