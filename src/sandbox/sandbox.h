#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// Runs untrusted Python. docs/benchmarks.md describes the protection and its limits.
namespace restkv::eval {

struct SandboxLimits {
  std::chrono::milliseconds wall{3000};   ///< From the start of Python to SIGKILL.
  size_t memory_bytes = size_t{1} << 30;  ///< Address space of each process.
  size_t file_bytes = size_t{16} << 20;   ///< All files together; none without a file tree.
  size_t processes = 16;                  ///< Threads, and processes if they are permitted.
};

struct SandboxResult {
  enum class Outcome { kPassed, kFailed, kTimedOut };
  Outcome outcome = Outcome::kFailed;
  std::string message;  ///< "passed", "timed out" or "failed: ...": one printable ASCII line.
  double seconds = 0;   ///< Wall clock, without setting the sandbox up.

  [[nodiscard]] bool passed() const { return outcome == Outcome::kPassed; }
};

/// Layers that a machine may lack. All others (separate process, empty environment, limits, no
/// descriptors, no new privileges) work on every Linux from 5.9 on.
struct SandboxLayers {
  bool namespaces = true;    ///< Own user, network, process and IPC namespaces.
  bool own_root = true;      ///< Own file tree: system folders read-only, a tmpfs to write to.
  bool landlock = true;      ///< Landlock: the same files only, and no foreign processes.
  bool system_calls = true;  ///< A seccomp filter: only system calls of an isolated process.
};

/// A layer that this machine does not support.
struct MissingLayer {
  std::string sentence;  ///< The layer, the reason, and what a program can do without it.
  std::string remedy;    ///< How to enable it.
};

class Sandbox {
 public:
  /// Determines the supported ones of the `wanted` layers by running an empty program. `python` is
  /// the interpreter; empty: python3 of the system. Throws `Error` (kUnsupported) if there is no
  /// Python or it cannot run even without optional layers.
  explicit Sandbox(const SandboxLayers& wanted = {}, const std::filesystem::path& python = {});
  ~Sandbox();

  /// Runs a whole program. It passes if it ends within the limits and without an exception
  /// (SystemExit is one). Output is discarded, standard input is empty. All its processes and files
  /// are gone when this returns, or when this process ends without returning. Meanwhile only root
  /// can trace this process or read its memory (PR_SET_DUMPABLE). May be called from several
  /// threads. Throws `Error`: kUnsupported if a layer found at construction cannot be set up
  /// (nothing runs with fewer layers), kIo if the system is out of processes or descriptors.
  [[nodiscard]] SandboxResult run(std::string_view program, const SandboxLimits& limits) const;

  [[nodiscard]] const SandboxLayers& layers() const { return layers_; }
  [[nodiscard]] const std::vector<MissingLayer>& missing() const { return missing_; }

 private:
  struct Plan;
  std::unique_ptr<Plan> plan_;
  SandboxLayers layers_;
  std::vector<MissingLayer> missing_;
};

}  // namespace restkv::eval
