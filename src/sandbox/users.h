#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>

/// Who a sandboxed process is.
namespace restkv::eval {

/// The user that sandboxed processes of root become; by convention one that owns nothing.
inline constexpr uid_t kNobody = 65534;

/// Whether this process is root and has the right to be somebody else (in a container, it may not).
bool can_become_nobody();

/// Maps kNobody of the new user namespace of `pid` to the one user it is to be outside: nobody, or
/// the user of this process. Returns what fails.
std::optional<std::string> map_users(pid_t pid, bool to_nobody);

/// Threads of `user` on this machine, as far as /proc shows them.
size_t threads_of(uid_t user);

}  // namespace restkv::eval
