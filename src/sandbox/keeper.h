#pragma once

#include "sandbox/confine.h"

namespace restkv::eval {

/// Descriptors that the processes of a sandbox get; all others are closed.
struct KeeperDescriptors {
  int null = -1;     ///< /dev/null; becomes 0, 1 and 2
  int report = -1;   ///< becomes 3
  int source = -1;   ///< becomes 4
  int control = -1;  ///< A SOCK_SEQPACKET of `KeeperMessage`s; the keeper's own.
};

/// Makes the confined process and stands by until it ends; runs in a process of its own, the first
/// of its namespaces. All that came from the confined process ends with the keeper, and the keeper
/// ends if nobody holds the other end of `control` any more: when restkv has what it wants, or is
/// killed. It also ends some seconds after the confined process should have, should restkv be
/// stopped. The program cannot prevent any of this: it can undo what was arranged in its own
/// process (PR_SET_PDEATHSIG), but does not reach this one. Async-signal-safe.
[[noreturn]] void keep(const Confinement& confinement, const KeeperDescriptors& descriptors);

}  // namespace restkv::eval
