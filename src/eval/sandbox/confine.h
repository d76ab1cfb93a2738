#pragma once

#include <linux/filter.h>
#include <sys/types.h>

#include <array>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "eval/sandbox/sandbox.h"

/// The inside of the sandbox: what a new process does to itself before it becomes Python.
namespace restkv::eval {

/// The user that sandboxed processes of root become; by convention one that owns nothing.
inline constexpr uid_t kNobody = 65534;

/// A part of the new file tree.
struct RootEntry {
  enum class Kind { kFolder, kDevice, kLink };
  Kind kind;
  std::string source;  ///< kFolder, kDevice: the path outside; kLink: what the link says.
  std::string target;  ///< Relative to the new root.
};

/// Everything a confined process needs, made before it is: it is a copy of one thread of a program
/// with many, so whatever takes a lock (also malloc) might never return.
struct Confinement {
  SandboxLayers layers;
  bool drop_root = false;  ///< Started by root: become kNobody.
  SandboxLimits limits;
  std::string folder;  ///< Where the new root is mounted; without it, the working folder.
  std::vector<RootEntry> root;
  std::string tmpfs_options;
  std::span<const sock_filter> filter;
  const char* const* arguments = nullptr;  ///< Of Python, from its path to the null pointer.

  // Descriptors. All others are closed.
  int null = -1;    ///< /dev/null; becomes 0, 1 and 2
  int report = -1;  ///< becomes 3
  int source = -1;  ///< becomes 4
  /// The process waits here for one byte, and writes a `ConfinementFailure` if a step fails.
  /// Python's start closes it.
  int control = -1;
};

struct ConfinementFailure {
  int error = 0;              ///< errno
  std::array<char, 32> step;  ///< What failed, zero-terminated.
};

/// Confines the calling process and becomes Python. Async-signal-safe.
[[noreturn]] void confine(const Confinement& confinement);

}  // namespace restkv::eval
