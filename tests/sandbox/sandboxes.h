#pragma once

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/types.h>

#include <chrono>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "sandbox/sandbox.h"

/// Sandboxes with fewer layers than there are, and processes that use one and come to grief.
namespace restkv::test {

/// For programs that end by themselves, on a machine that is busy.
inline const eval::SandboxLimits kPatient{.wall = std::chrono::seconds(20)};

inline constexpr eval::SandboxLayers kNoFilter{.system_calls = false};
inline constexpr eval::SandboxLayers kNamespacesOnly{.landlock = false, .system_calls = false};
inline constexpr eval::SandboxLayers kNoNamespaces{.namespaces = false, .own_root = false};
inline constexpr eval::SandboxLayers kFilterOnly{
    .namespaces = false, .own_root = false, .landlock = false};
inline constexpr eval::SandboxLayers kLandlockOnly{
    .namespaces = false, .own_root = false, .system_calls = false};
inline constexpr eval::SandboxLayers kNoLayers{
    .namespaces = false, .own_root = false, .landlock = false, .system_calls = false};

// Made once, and for the user who runs the tests only.
const eval::Sandbox& full_sandbox();
const eval::Sandbox& sandbox_without_filter();
const eval::Sandbox& sandbox_without_namespaces();
const eval::Sandbox& sandbox_without_layers();

/// Why layers are missing.
std::string reasons(const eval::Sandbox& sandbox);

#define NEEDS(layer, sandbox)    \
  if (!(sandbox).layers().layer) \
  GTEST_SKIP() << "not permitted here: " << ::restkv::test::reasons(sandbox)

/// What a program that must fail says.
std::string failure(const eval::Sandbox& sandbox, const std::string& program,
                    const eval::SandboxLimits& limits = kPatient);

void expect_pass(const eval::Sandbox& sandbox, const std::string& program);

/// A name for a program's processes, so that they can be told from those of other tests.
std::string process_name();
/// The Python that takes it.
std::string take_process_name();
/// Those that run (zombies do not), each with its parent.
std::vector<std::pair<pid_t, pid_t>> processes_of_that_name();
/// Whether as many processes of that name run before 10 seconds are over.
bool processes_become(size_t number);

/// A copy of this process that runs `function`, which says how it went.
class Child {
 public:
  explicit Child(const std::function<std::string()>& function);
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;
  ~Child();
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// What `function` returned, or the message of its exception; "" if it was killed.
  std::string said();
  /// SIGKILL; returns when it has ended.
  void kill();

 private:
  pid_t pid_;
  int pipe_ = -1;
};

/// Makes this process (of a `Child`) one of an ordinary user, if it has the right to.
void become_ordinary_user();
/// From now on this process can make no user namespaces, as in many containers. Whether that
/// worked.
bool lose_user_namespaces();

}  // namespace restkv::test
