#pragma once

#include <cstdint>

namespace restkv::eval {

/// Rights that this kernel's Landlock can restrict, as sets of bits; newer kernels have more. Docs:
/// https://docs.kernel.org/userspace-api/landlock.html
struct LandlockRights {
  uint64_t files = 0;    ///< LANDLOCK_ACCESS_FS_*; never 0 with Landlock.
  uint64_t network = 0;  ///< LANDLOCK_ACCESS_NET_* (TCP), from Linux 6.7 on.
  uint64_t scopes = 0;   ///< LANDLOCK_SCOPE_*, from 6.12 on: no signals and abstract sockets.

  /// Rights of readable files, of listed folders, of devices, and of the process's own folder.
  [[nodiscard]] uint64_t read_only() const;
  [[nodiscard]] uint64_t device() const;
  [[nodiscard]] uint64_t all() const { return files; }
};

/// Throws `Error` (kUnsupported) if the kernel has no Landlock or has it disabled.
LandlockRights landlock_rights();

// Steps of a process that confines itself; async-signal-safe. A negative result sets errno.

/// A descriptor of a set of rules that forbids all of `rights` everywhere.
int make_landlock_rules(const LandlockRights& rights);
/// Permits `rights` at `path` and below.
long add_landlock_rule(int rules, const char* path, uint64_t rights);
/// Applies the rules to this process and its future children. It can then no longer trace processes
/// without these rules.
long obey_landlock_rules(int rules);

}  // namespace restkv::eval
