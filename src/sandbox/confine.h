#pragma once

#include <linux/filter.h>

#include <span>
#include <string>
#include <vector>

#include "sandbox/landlock.h"
#include "sandbox/sandbox.h"

/// The inside of the sandbox: what a new process does to itself before it becomes Python.
namespace restkv::eval {

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
  std::vector<RootEntry> root;
  std::string tmpfs_options;
  LandlockRights landlock;
  std::span<const sock_filter> filter;
  const char* const* arguments = nullptr;  ///< Of Python, from its path to the null pointer.
};

/// Confines the calling process and becomes Python. Tells `control` which step fails, if one does.
/// Async-signal-safe.
[[noreturn]] void confine(const Confinement& confinement, int control);

}  // namespace restkv::eval
