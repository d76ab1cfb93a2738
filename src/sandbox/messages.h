#pragma once

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>

namespace restkv::eval {

/// The layers of `SandboxLayers`, in the order in which they are dropped if the failing one is
/// unknown.
enum class Layer { kOwnRoot, kLandlock, kSystemCalls, kNamespaces, kNone };

/// A message of a process of a sandbox to restkv, in one packet.
struct KeeperMessage {
  enum class Kind {
    kReady,    ///< The keeper runs and waits for the mapping of its users.
    kFailed,   ///< A step of setting up failed.
    kStarted,  ///< Python runs.
    kEnded,    ///< Python has ended.
  };
  Kind kind = Kind::kReady;
  Layer layer = Layer::kNone;   ///< kFailed: the layer of the step.
  int value = 0;                ///< kFailed: errno; kEnded: the wait status.
  std::array<char, 32> step{};  ///< kFailed: zero-terminated.
};

/// Sends a message; a closed other end is ignored. Async-signal-safe.
inline void tell(int control, const KeeperMessage& message) {
  (void)send(control, &message, sizeof message, MSG_NOSIGNAL);
}

/// Checks the results of steps: a failure is reported to `control` and ends the process.
/// Async-signal-safe.
class Steps {
 public:
  Steps(int control, Layer layer) : control_(control), layer_(layer) {}
  void operator()(long result, const char* step) const;

 private:
  int control_;
  Layer layer_;
};

}  // namespace restkv::eval
