#pragma once

#include <cstdint>

namespace restkv::eval {

/// What this kernel's Landlock can keep from a process, each as a set of bits; newer kernels know
/// more. Docs: https://docs.kernel.org/userspace-api/landlock.html
struct LandlockRights {
  uint64_t files = 0;    ///< LANDLOCK_ACCESS_FS_*; never 0 where there is Landlock.
  uint64_t network = 0;  ///< LANDLOCK_ACCESS_NET_* (TCP), from Linux 6.7 on.
  uint64_t scopes = 0;   ///< LANDLOCK_SCOPE_*, from 6.12 on: no signals and abstract sockets.

  /// Those of a file that may be read, a folder that may be seen, a device and a folder that is the
  /// process's own.
  [[nodiscard]] uint64_t read_only() const;
  [[nodiscard]] uint64_t device() const;
  [[nodiscard]] uint64_t all() const { return files; }
};

/// Throws `Error` (kUnsupported) if the kernel has no Landlock or does not let it be used.
LandlockRights landlock_rights();

// The steps of a process that confines itself; async-signal-safe. Negative: errno says why.

/// A descriptor of a set of rules that forbids all of `rights` everywhere.
int make_landlock_rules(const LandlockRights& rights);
/// Permits `rights` at `path` and below.
long add_landlock_rule(int rules, const char* path, uint64_t rights);
/// From now on the rules hold for this process and for all that it makes; it also can no longer
/// trace a process that is not bound by them.
long obey_landlock_rules(int rules);

}  // namespace restkv::eval
