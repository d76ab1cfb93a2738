#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// Runs Python that nobody has read. docs/benchmarks.md says what keeps it in and what does not.
namespace restkv::eval {

struct SandboxLimits {
  std::chrono::milliseconds wall{3000};   ///< From the start of Python to SIGKILL.
  size_t memory_bytes = size_t{1} << 30;  ///< Address space of each process.
  size_t file_bytes = size_t{16} << 20;   ///< All files together; none without a file tree.
  size_t processes = 16;                  ///< Threads, and processes where they can be made at all.
};

struct SandboxResult {
  enum class Outcome { kPassed, kFailed, kTimedOut };
  Outcome outcome = Outcome::kFailed;
  std::string message;  ///< "passed", "timed out" or "failed: ...": one printable ASCII line.
  double seconds = 0;   ///< Wall clock, without setting the sandbox up.

  [[nodiscard]] bool passed() const { return outcome == Outcome::kPassed; }
};

/// What can be missing on a machine; everything else (own process, empty environment, limits, no
/// descriptors, no new privileges) is there on every Linux from 5.9 on.
struct SandboxLayers {
  bool namespaces = true;    ///< Own user, network, process and IPC namespaces.
  bool own_root = true;      ///< Own file tree: system folders read-only, a tmpfs to write to.
  bool landlock = true;      ///< Landlock: the same files and no others, no other's processes.
  bool system_calls = true;  ///< A seccomp filter: only what a process that is alone needs.
};

/// A layer that this machine does not permit.
struct MissingLayer {
  std::string sentence;  ///< Which one, why, and what a program can do because of it.
  std::string remedy;    ///< What would have to change.
};

class Sandbox {
 public:
  /// Finds out, by running an empty program, which of the `wanted` layers this machine permits.
  /// `python`: the interpreter; empty: python3 of the system. Throws `Error` (kUnsupported) if
  /// there is no Python or it cannot be run even with no optional layer.
  explicit Sandbox(const SandboxLayers& wanted = {}, const std::filesystem::path& python = {});
  ~Sandbox();

  /// Runs a program from its first line to its last. It passes if no exception (SystemExit is one)
  /// leaves it within the limits. Output goes nowhere, standard input is at its end. Nothing of it
  /// is left when this returns, nor when this process ends without returning. Meanwhile only root
  /// can trace this process or look into its memory (PR_SET_DUMPABLE). May be called
  /// from several threads. Throws `Error` (kUnsupported) if a layer that was there at construction
  /// cannot be set up: nothing ever runs with less; kIo if the system is out of processes or
  /// descriptors.
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
