#pragma once

#include <linux/filter.h>

#include <span>
#include <string>
#include <vector>

#include "sandbox/landlock.h"
#include "sandbox/sandbox.h"

/// Confinement of a new process before it executes Python.
namespace restkv::eval {

/// A part of the new file tree.
struct RootEntry {
  enum class Kind { kFolder, kDevice, kLink };
  Kind kind;
  std::string source;  ///< kFolder, kDevice: the path outside; kLink: the link's text.
  std::string target;  ///< Relative to the new root.
};

/// Data of a confined process, prepared before the fork. The process is a copy of one thread of a
/// program with many threads, so functions that take a lock (even malloc) might never return.
struct Confinement {
  SandboxLayers layers;
  bool drop_root = false;  ///< Started by root: switch to kNobody.
  SandboxLimits limits;
  std::vector<RootEntry> root;
  std::string tmpfs_options;
  LandlockRights landlock;
  std::span<const sock_filter> filter;
  const char* const* arguments = nullptr;  ///< Of Python, from its path to the null pointer.
};

/// Confines the calling process and executes Python. Reports a failed step to `control`.
/// Async-signal-safe.
[[noreturn]] void confine(const Confinement& confinement, int control);

}  // namespace restkv::eval
