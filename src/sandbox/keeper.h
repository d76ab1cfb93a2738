#pragma once

#include "sandbox/confine.h"

namespace restkv::eval {

/// Descriptors of the processes of a sandbox; all others are closed.
struct KeeperDescriptors {
  int null = -1;     ///< /dev/null; becomes 0, 1 and 2
  int report = -1;   ///< becomes 3
  int source = -1;   ///< becomes 4
  int control = -1;  ///< A SOCK_SEQPACKET of `KeeperMessage`s; the keeper's own.
};

/// Creates the confined process and waits for its end. It runs in a separate process, the first of
/// its namespaces. All descendants of the confined process end with the keeper. The keeper ends
/// when the other end of `control` is closed: when restkv has the result, or is killed. It also
/// ends some seconds after the time limit, in case restkv is stopped. The program cannot prevent
/// this: it can undo settings of its own process (PR_SET_PDEATHSIG), but cannot reach the keeper.
/// Async-signal-safe.
[[noreturn]] void keep(const Confinement& confinement, const KeeperDescriptors& descriptors);

}  // namespace restkv::eval
