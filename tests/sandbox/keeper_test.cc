#include "sandbox/keeper.h"

#include <unistd.h>

#include <csignal>
#include <string>

#include "sandbox/sandboxes.h"

// Whatever becomes of restkv, nothing of a program stays.
namespace restkv::eval {
namespace {

using test::Child;
using test::processes_become;

/// Ignores all signals, takes back what ends it with its parent, tries to make a daemon, sleeps.
std::string survivor() {
  return test::take_process_name() + R"(
import posix, signal, time
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
for number in range(1, 65):
    try: signal.signal(number, signal.SIG_IGN)
    except Exception: pass
try:
    if posix.fork() == 0:
        posix.setsid()
        if posix.fork() == 0: time.sleep(600)
        posix._exit(0)
    time.sleep(0.5)
except OSError: pass
time.sleep(600)
)";
}

struct Mode {
  const char* name;
  SandboxLayers layers;
  bool makes_daemons;
};

void PrintTo(const Mode& mode, std::ostream* out) { *out << mode.name; }

class Survivors : public testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    const Sandbox sandbox(GetParam().layers);
    const SandboxLayers& there = sandbox.layers();
    const SandboxLayers& wanted = GetParam().layers;
    if (there.namespaces != wanted.namespaces || there.system_calls != wanted.system_calls) {
      GTEST_SKIP() << "not permitted here: " << test::reasons(sandbox);
    }
  }
  /// What restkv would be: it runs a survivor, within `wall`.
  static std::string run(std::chrono::milliseconds wall) {
    const Sandbox sandbox(GetParam().layers);
    return sandbox.run(survivor(), {.wall = wall}).message;
  }
  static size_t expected() { return GetParam().makes_daemons ? 2 : 1; }
};

TEST_P(Survivors, EndWithAKilledRestkv) {
  Child restkv([] { return run(std::chrono::minutes(10)); });
  ASSERT_TRUE(processes_become(expected()));
  restkv.kill();
  EXPECT_TRUE(processes_become(0));
}

TEST_P(Survivors, EndAtTheTimeLimit) {
  EXPECT_EQ(run(std::chrono::milliseconds(800)), "timed out");
  EXPECT_TRUE(processes_become(0));
}

const Mode kFull{"full", {}, false};
const Mode kNothing{"nothing", test::kNoLayers, true};
const auto name_of = [](const auto& mode) { return std::string(mode.param.name); };

INSTANTIATE_TEST_SUITE_P(Keeper, Survivors,
                         testing::Values(kFull, Mode{"no_namespaces", test::kNoNamespaces, false},
                                         Mode{"no_filter", test::kNoFilter, true}, kNothing),
                         name_of);

class SurvivorsOfTheStop : public Survivors {};

TEST_P(SurvivorsOfTheStop, End) {
  Child restkv([] { return run(std::chrono::milliseconds(1500)); });
  ASSERT_TRUE(processes_become(expected()));
  kill(restkv.pid(), SIGSTOP);
  EXPECT_TRUE(processes_become(0));
  kill(restkv.pid(), SIGCONT);
  EXPECT_EQ(restkv.said(), "timed out");
}

INSTANTIATE_TEST_SUITE_P(Keeper, SurvivorsOfTheStop, testing::Values(kFull, kNothing), name_of);

/// Whoever kills both restkv and its keeper (by name, say) leaves no program behind either.
TEST(Keeper, WithoutItNothingGoesOn) {
  NEEDS(system_calls, test::full_sandbox());
  for (const Sandbox* sandbox : {&test::full_sandbox(), &test::sandbox_without_namespaces()}) {
    Child restkv(
        [&] { return sandbox->run(survivor(), {.wall = std::chrono::minutes(10)}).message; });
    ASSERT_TRUE(processes_become(1));
    const pid_t keeper = test::processes_of_that_name().front().second;
    ASSERT_NE(keeper, restkv.pid());
    kill(keeper, SIGKILL);
    EXPECT_TRUE(processes_become(0));
    EXPECT_EQ(restkv.said(), "failed: killed from outside");
  }
}

}  // namespace
}  // namespace restkv::eval
