#pragma once

#include <sys/types.h>

#include <cstddef>
#include <optional>
#include <string>

/// Users of sandboxed processes.
namespace restkv::eval {

/// The user of sandboxed processes of root; by convention it owns nothing.
inline constexpr uid_t kNobody = 65534;

/// Whether this process is root and may switch users (in a container it may not).
bool can_become_nobody();

/// Maps kNobody of the new user namespace of `pid` to its outside user: nobody, or the user of this
/// process. Returns a description of a failure.
std::optional<std::string> map_users(pid_t pid, bool to_nobody);

/// Threads of `user` on this machine, as far as /proc shows them.
size_t threads_of(uid_t user);

}  // namespace restkv::eval
