#pragma once

#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstddef>

namespace restkv::eval {

/// The layers of `SandboxLayers`, in the order in which they are given up where nothing says which
/// one does not work.
enum class Layer { kOwnRoot, kLandlock, kSystemCalls, kNamespaces, kNone };

/// What the processes of a sandbox tell restkv, each in a packet of its own.
struct KeeperMessage {
  enum class Kind {
    kReady,    ///< The keeper is there and waits for its users to be mapped.
    kFailed,   ///< A step of setting up failed.
    kStarted,  ///< Python runs.
    kEnded,    ///< Python has ended.
  };
  Kind kind = Kind::kReady;
  Layer layer = Layer::kNone;   ///< kFailed: the one that needs the step.
  int value = 0;                ///< kFailed: errno; kEnded: the wait status.
  std::array<char, 32> step{};  ///< kFailed: zero-terminated.
};

/// Async-signal-safe. Whoever is not there any more need not be told.
inline void tell(int control, const KeeperMessage& message) {
  (void)send(control, &message, sizeof message, MSG_NOSIGNAL);
}

/// Ends the process, telling the other end of `control` why, unless a step's result is a success.
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
