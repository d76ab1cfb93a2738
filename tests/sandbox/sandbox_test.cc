#include "sandbox/sandbox.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "base/file.h"
#include "restkv/error.h"
#include "sandbox/sandboxes.h"

// Every attempt goes through `posix`, `_socket` and the like, or restores what the driver took
// away: the driver's list is for comparability, the sandbox must hold without it.
namespace restkv::eval {
namespace {

namespace fs = std::filesystem;
using Outcome = SandboxResult::Outcome;
using test::expect_pass;
using test::failure;
using test::full_sandbox;
using test::kPatient;
using test::processes_become;
using test::reasons;
using test::sandbox_without_filter;
using test::sandbox_without_layers;
using test::sandbox_without_namespaces;
using test::take_process_name;
using ::testing::HasSubstr;
using ::testing::StartsWith;

const SandboxLimits kQuick{.wall = std::chrono::milliseconds(1000)};

TEST(Sandbox, RunsAProgramToItsEnd) {
  for (const Sandbox* sandbox : {&full_sandbox(), &sandbox_without_namespaces()}) {
    expect_pass(*sandbox,
                "import math, typing, re, hashlib, collections\nassert math.sqrt(4) == 2");
    EXPECT_EQ(failure(*sandbox, "raise ValueError('seven')"), "failed: ValueError: seven");
    EXPECT_THAT(failure(*sandbox, "def f(:"), StartsWith("failed: SyntaxError"));
    EXPECT_EQ(failure(*sandbox, "assert False"), "failed: AssertionError: ");
  }
}

TEST(Sandbox, OnlyTheLastLineIsAPass) {
  EXPECT_EQ(failure(full_sandbox(), "import sys; sys.exit(0)"), "failed: SystemExit: 0");
  EXPECT_EQ(failure(full_sandbox(), "import os; os._exit(0)"),
            "failed: left with exit status 0 before its end");
  EXPECT_EQ(failure(full_sandbox(), "import os; os.write(3, b'passed'); os._exit(0)"),
            "failed: passed");
  EXPECT_EQ(failure(full_sandbox(), "raise KeyboardInterrupt"), "failed: KeyboardInterrupt: ");
  EXPECT_THAT(failure(full_sandbox(), "import ctypes; ctypes.string_at(0)"),
              HasSubstr("ended by signal 11"));
}

TEST(Sandbox, MessagesAreOnePrintableLine) {
  EXPECT_EQ(failure(full_sandbox(), "raise ValueError('a\\nb\\x1b[2J')"), "failed: ValueError: a");
  EXPECT_EQ(failure(full_sandbox(), "raise ValueError('\\x1b\\u00e9')"),
            "failed: ValueError: ?\\xe9");
  EXPECT_LT(failure(full_sandbox(), "raise ValueError('x' * 10**7)").size(), 600U);
  // Flooding the descriptor that takes the message.
  EXPECT_THAT(failure(full_sandbox(), "import os\nwhile True: os.write(3, b'x' * 65536)"),
              StartsWith("failed: xxx"));
}

TEST(Sandbox, EndlessLoopsEnd) {
  for (const char* program :
       {"while True: pass", "import time; time.sleep(60)",
        "try:\n  while True: pass\nexcept BaseException:\n  while True: pass",
        "import signal\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG_IGN)\n"
        "  except Exception: pass\nwhile True: pass"}) {
    const SandboxResult result =
        full_sandbox().run(program, {.wall = std::chrono::milliseconds(400)});
    EXPECT_EQ(result.outcome, Outcome::kTimedOut) << program;
    EXPECT_EQ(result.message, "timed out");
    EXPECT_GE(result.seconds, 0.4);
    EXPECT_LT(result.seconds, 5);
  }
}

TEST(Sandbox, ThreadsThatGoOnDoNotKeepAProgramAlive) {
  expect_pass(full_sandbox(),
              "import threading, time\n"
              "threading.Thread(target=time.sleep, args=(60,)).start()");
}

TEST(Sandbox, MemoryIsLimited) {
  EXPECT_EQ(failure(full_sandbox(), "x = bytearray(1 << 31)"), "failed: MemoryError: ");
  const SandboxResult result =
      full_sandbox().run("x = []\nwhile True: x.append(bytearray(1 << 24))",
                         {.wall = std::chrono::seconds(20), .memory_bytes = size_t{256} << 20});
  EXPECT_EQ(result.outcome, Outcome::kFailed) << result.message;
}

TEST(Sandbox, OutputGoesNowhere) {
  testing::internal::CaptureStdout();
  testing::internal::CaptureStderr();
  expect_pass(full_sandbox(),
              "import os, sys\n"
              "for i in range(200): print('x' * 100000); print('y' * 1000, file=sys.stderr)\n"
              "os.write(1, b'z')");
  EXPECT_EQ(testing::internal::GetCapturedStdout(), "");
  EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
}

TEST(Sandbox, StandardInputIsAtItsEnd) {
  EXPECT_THAT(failure(full_sandbox(), "input()"), StartsWith("failed: EOFError"));
  expect_pass(full_sandbox(), "import sys; assert sys.stdin.read() == ''");
}

TEST(Sandbox, NothingIsInherited) {
  setenv("RESTKV_TEST_SECRET", "swordfish", 1);
  for (const Sandbox* sandbox : {&full_sandbox(), &sandbox_without_namespaces()}) {
    // LC_CTYPE is what Python itself sets in a bare environment.
    expect_pass(*sandbox, "import os; assert set(os.environ) <= {'LC_CTYPE'}, dict(os.environ)");
    expect_pass(*sandbox,
                "import os\n"
                "def is_open(fd):\n"
                "  try: os.fstat(fd)\n"
                "  except OSError: return False\n"
                "  return True\n"
                "assert [fd for fd in range(1000) if is_open(fd)] == [0, 1, 2, 3]");
    if (sandbox->layers().own_root) {
      expect_pass(*sandbox, "import os; assert os.listdir('.') == []");
    }
    expect_pass(*sandbox,
                "import signal\n"
                "assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == set()");
  }
  unsetenv("RESTKV_TEST_SECRET");
}

TEST(Sandbox, RootBecomesNobody) {
  if (geteuid() != 0) GTEST_SKIP() << "the tests do not run as root";
  if (reasons(full_sandbox()).find("runs as root") != std::string::npos) {
    GTEST_SKIP() << "not permitted here: " << reasons(full_sandbox());
  }
  for (const Sandbox* sandbox : {&full_sandbox(), &sandbox_without_layers()}) {
    expect_pass(*sandbox, "import os; assert os.getresuid() == (65534,) * 3, os.getresuid()");
    expect_pass(*sandbox, "import os; assert 0 not in os.getgroups(), os.getgroups()");
  }
}

TEST(Sandbox, NoPrivilegesAreLeftOrCanBeHad) {
  for (const Sandbox* sandbox : {&full_sandbox(), &sandbox_without_layers()}) {
    // PR_GET_NO_NEW_PRIVS is 39; capget with version 3 and pid 0.
    expect_pass(*sandbox,
                "import ctypes\n"
                "libc = ctypes.CDLL(None)\n"
                "assert libc.prctl(39, 0, 0, 0, 0) == 1\n"
                "header = (ctypes.c_uint32 * 2)(0x20080522, 0)\n"
                "sets = (ctypes.c_uint32 * 6)(*[7] * 6)\n"
                "assert libc.capget(header, sets) == 0\n"
                "assert sets[0] == sets[1] == sets[3] == sets[4] == 0, list(sets)");
  }
}

TEST(Sandbox, FilesOutsideCannotBeWrittenOrRead) {
  NEEDS(own_root, full_sandbox());
  const fs::path folder = fs::temp_directory_path() / fmt::format("restkv-outside-{}", getpid());
  fs::create_directory(folder);
  fs::permissions(folder, fs::perms::all);
  const fs::path secret = folder / "secret";
  std::ofstream(secret) << "swordfish";
  fs::permissions(secret, fs::perms::all);
  const Sandbox tree_only(test::kNamespacesOnly);
  expect_pass(tree_only,
              "import os; assert set(os.listdir('/')) <= {'bin', 'dev', 'lib', 'lib32', 'lib64', "
              "'tmp', 'usr'}, os.listdir('/')");
  for (const Sandbox* sandbox : {&full_sandbox(), &tree_only}) {
    EXPECT_THAT(failure(*sandbox, fmt::format("open('{}')", secret.string())),
                StartsWith("failed: FileNotFoundError"));
    EXPECT_THAT(failure(*sandbox, fmt::format("open('{}', 'w')", secret.string())),
                StartsWith("failed: FileNotFoundError"));
    EXPECT_THAT(failure(*sandbox, "open('/usr/restkv', 'w')"), HasSubstr("Read-only file system"));
    EXPECT_THAT(failure(*sandbox, "open('/restkv', 'w')"), HasSubstr("Read-only file system"));
    EXPECT_THAT(failure(*sandbox, "open('../restkv', 'w')"), HasSubstr("Read-only file system"));
    // Through the descriptor of a folder from before pivot_root, if there were one.
    EXPECT_THAT(failure(*sandbox, "open('/proc/1/root/etc/passwd')"),
                StartsWith("failed: FileNotFoundError"));
  }
  EXPECT_EQ(read_file(secret), "swordfish");
  fs::remove_all(folder);
}

TEST(Sandbox, ItsOwnFilesAreLimitedAndGone) {
  NEEDS(own_root, full_sandbox());
  expect_pass(full_sandbox(), "open('a', 'w').write('b'); assert open('a').read() == 'b'");
  expect_pass(full_sandbox(), "import os; assert not os.path.exists('a')");
  const SandboxLimits small{.wall = std::chrono::seconds(20), .file_bytes = size_t{1} << 20};
  EXPECT_THAT(failure(full_sandbox(), "open('a', 'wb').write(bytes(1 << 22))", small),
              StartsWith("failed: OSError"));
}

TEST(Sandbox, WithoutAPlaceOfItsOwnNothingCanBeWritten) {
  NEEDS(system_calls, sandbox_without_namespaces());
  const Sandbox filter_only(test::kFilterOnly);
  for (const Sandbox* sandbox : {&sandbox_without_namespaces(), &filter_only}) {
    expect_pass(*sandbox,
                "import errno\n"
                "for path in 'a', '/tmp/a', '/dev/shm/a', '/dev/null':\n"
                "  for how in 'w', 'a', 'x', 'r+':\n"
                "    try: open(path, how)\n"
                "    except OSError as error: assert error.errno == errno.EROFS, error\n"
                "    else: assert False, path");
  }
}

TEST(Sandbox, ManyFilesDoNotFillADisk) {
  NEEDS(own_root, full_sandbox());
  EXPECT_THAT(
      failure(full_sandbox(), "for i in range(64): open(str(i), 'wb').write(bytes(1 << 20))"),
      HasSubstr("No space left"));
  EXPECT_THAT(failure(full_sandbox(), "for i in range(10000): open(str(i), 'wb').close()"),
              HasSubstr("No space left"));
}

/// A TCP server of this process.
class Listener {
 public:
  Listener() : fd_(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* const any = reinterpret_cast<sockaddr*>(&address);
    works_ = bind(fd_, any, size) == 0 && listen(fd_, 4) == 0 && getsockname(fd_, any, &size) == 0;
    port_ = ntohs(address.sin_port);
  }
  Listener(const Listener&) = delete;
  Listener& operator=(const Listener&) = delete;
  ~Listener() { close(fd_); }
  [[nodiscard]] bool works() const { return works_; }
  [[nodiscard]] int port() const { return port_; }

 private:
  int fd_;
  bool works_ = false;
  int port_ = 0;
};

TEST(Sandbox, ThereIsNoNetwork) {
  const Listener listener;
  ASSERT_TRUE(listener.works());
  const std::string connect = fmt::format(
      "import _socket\n"
      "_socket.socket(_socket.AF_INET, _socket.SOCK_STREAM).connect(('127.0.0.1', {}))",
      listener.port());
  // The program is right: where nothing holds it back it gets through.
  expect_pass(sandbox_without_layers(), connect);
  EXPECT_THAT(failure(full_sandbox(), connect), StartsWith("failed: "));
  if (sandbox_without_namespaces().layers().system_calls) {
    EXPECT_THAT(failure(sandbox_without_namespaces(), connect), HasSubstr("not implemented"));
  }
  const Sandbox namespaces_only(test::kNamespacesOnly);
  if (namespaces_only.layers().namespaces) {
    EXPECT_THAT(failure(namespaces_only, connect), HasSubstr("unreachable"));
  }
}

TEST(Sandbox, TheParentCannotBeKilledOrSeen) {
  const std::string parent = std::to_string(getpid());
  for (const char* target : {"posix.getppid()", "1", "-1", "0"}) {
    const std::string kill = fmt::format("import posix; posix.kill({}, 9)", target);
    if (sandbox_without_namespaces().layers().system_calls) {
      EXPECT_THAT(failure(sandbox_without_namespaces(), kill), HasSubstr("not implemented"));
    }
    if (sandbox_without_filter().layers().namespaces) {
      (void)sandbox_without_filter().run(kill, kQuick);  // only itself can have been hit
    }
  }
  if (sandbox_without_filter().layers().namespaces) {
    EXPECT_THAT(failure(sandbox_without_filter(), "import posix; posix.kill(" + parent + ", 9)"),
                StartsWith("failed: ProcessLookupError"));
    expect_pass(sandbox_without_filter(), "import posix; assert posix.getppid() == 1");
  }
  NEEDS(own_root, full_sandbox());
  for (const std::string& path : {"/proc/" + parent + "/environ", std::string("/proc/1/environ"),
                                  std::string("/proc/self/environ")}) {
    EXPECT_THAT(failure(full_sandbox(), "open('" + path + "', 'rb').read()"),
                StartsWith("failed: FileNotFoundError"));
  }
}

TEST(Sandbox, NoProcessesAreMade) {
  NEEDS(system_calls, full_sandbox());
  for (const Sandbox* sandbox : {&full_sandbox(), &sandbox_without_namespaces()}) {
    EXPECT_THAT(failure(*sandbox, "import posix; posix.fork()"), HasSubstr("not implemented"));
    EXPECT_THAT(failure(*sandbox, "import posix; posix.posix_spawn('/bin/true', ['true'], {})"),
                StartsWith("failed: "));
    expect_pass(*sandbox, "import posix; assert posix.system('true') != 0");
    EXPECT_THAT(failure(*sandbox, "import posix; posix.setsid()"), HasSubstr("not implemented"));
  }
}

TEST(Sandbox, ForkBombsAreContained) {
  const std::string bomb = take_process_name() +
                           "import posix\nwhile True:\n  try: posix.fork()\n  except OSError: pass";
  for (const Sandbox* sandbox : {&full_sandbox(), &sandbox_without_filter()}) {
    if (sandbox == &sandbox_without_filter() && !sandbox->layers().namespaces) continue;
    const SandboxResult result = sandbox->run(bomb, kQuick);
    EXPECT_EQ(result.outcome, Outcome::kTimedOut);
    EXPECT_LT(result.seconds, 5);
    EXPECT_TRUE(processes_become(0));
  }
  const std::string threads =
      "import threading, time\n"
      "for i in range(100): threading.Thread(target=time.sleep, args=(60,)).start()";
  EXPECT_THAT(failure(full_sandbox(), threads), HasSubstr("can't start new thread"));
}

/// Without a user namespace the kernel counts all processes of a user.
TEST(Sandbox, WhatElseAUserRunsTakesNoThreads) {
  test::Child restkv([] {
    test::become_ordinary_user();
    std::vector<std::unique_ptr<test::Child>> others;
    for (int i = 0; i < 20; ++i) {
      others.push_back(std::make_unique<test::Child>([] {
        sleep(60);
        return std::string();
      }));
    }
    const Sandbox sandbox(test::kNoNamespaces);
    const auto start = [&](int threads) {
      return sandbox
          .run(fmt::format("import threading, time\nfor i in range({}):\n  "
                           "threading.Thread(target=time.sleep, args=(1,), daemon=True).start()",
                           threads),
               kPatient)
          .message;
    };
    return start(15) + ", " + start(100);
  });
  EXPECT_EQ(restkv.said(), "passed, failed: RuntimeError: can't start new thread");
}

TEST(Sandbox, DaemonsDoNotSurvive) {
  NEEDS(namespaces, sandbox_without_filter());
  // Leaves its session and its parent, then says that it lives.
  const SandboxResult result =
      sandbox_without_filter().run(take_process_name() +
                                       "import posix, time\n"
                                       "r, w = posix.pipe()\n"
                                       "if posix.fork() == 0:\n"
                                       "  posix.setsid()\n"
                                       "  if posix.fork() == 0:\n"
                                       "    posix.write(w, b'alive')\n"
                                       "    time.sleep(60)\n"
                                       "  posix._exit(0)\n"
                                       "assert posix.read(r, 5) == b'alive'",
                                   kPatient);
  EXPECT_TRUE(result.passed()) << result.message;
  EXPECT_LT(result.seconds, 15);
  EXPECT_TRUE(processes_become(0));
}

TEST(Sandbox, WhatTheDriverTakesAwayIsGone) {
  for (const char* call : {"os.system('true')", "os.getcwd()", "subprocess.Popen(['true'])",
                           "shutil.rmtree('.')", "exit()", "quit()", "os.fork()"}) {
    EXPECT_EQ(failure(full_sandbox(), fmt::format("import os, shutil, subprocess\n{}", call)),
              "failed: TypeError: 'NoneType' object is not callable");
  }
  EXPECT_THAT(failure(full_sandbox(), "import resource"),
              StartsWith("failed: ModuleNotFoundError"));
}

TEST(Sandbox, MissingLayersAreNamed) {
  for (const char* layer : {"no file tree of its own (not wanted)", "no namespaces (not wanted)",
                            "no Landlock (not wanted)", "no filter of system calls (not wanted)"}) {
    EXPECT_THAT(reasons(sandbox_without_layers()), HasSubstr(layer));
  }
  EXPECT_THAT(reasons(sandbox_without_namespaces()), HasSubstr("no namespaces (not wanted)"));
  EXPECT_THAT(reasons(sandbox_without_filter()), HasSubstr("no filter of system calls"));
  for (const MissingLayer& missing : sandbox_without_layers().missing()) {
    EXPECT_NE(missing.remedy, "") << missing.sentence;
  }
  const SandboxLayers& all = full_sandbox().layers();
  EXPECT_EQ(full_sandbox().missing().empty(),
            all.namespaces && all.own_root && all.landlock && all.system_calls &&
                reasons(full_sandbox()).find("runs as root") == std::string::npos);
}

/// The layers of a sandbox on a machine that answers `call` with EPERM where `argument` is given.
std::string layers_without(int call, std::vector<scmp_arg_cmp> arguments) {
  test::Child restkv([&] {
    scmp_filter_ctx machine = seccomp_init(SCMP_ACT_ALLOW);
    seccomp_rule_add_array(machine, SCMP_ACT_ERRNO(EPERM), call,
                           static_cast<unsigned>(arguments.size()), arguments.data());
    seccomp_load(machine);
    const Sandbox sandbox;
    const SandboxLayers& there = sandbox.layers();
    return fmt::format("{}{}{}{}{}", there.own_root ? "root " : "",
                       there.namespaces ? "names " : "", there.landlock ? "landlock " : "",
                       there.system_calls ? "filter " : "", sandbox.run("pass", kPatient).message);
  });
  return restkv.said();
}

TEST(Sandbox, AMissingLayerCostsNoOther) {
  const SandboxLayers& all = full_sandbox().layers();
  if (!all.own_root || !all.landlock || !all.system_calls) {
    GTEST_SKIP() << "not permitted here: " << reasons(full_sandbox());
  }
  EXPECT_EQ(layers_without(SCMP_SYS(mount), {}), "names landlock filter passed");
  EXPECT_EQ(layers_without(SCMP_SYS(clone), {{.arg = 0,
                                              .op = SCMP_CMP_MASKED_EQ,
                                              .datum_a = CLONE_NEWUSER,
                                              .datum_b = CLONE_NEWUSER}}),
            "landlock filter passed");
  for (const int call : {SCMP_SYS(landlock_create_ruleset), SCMP_SYS(landlock_restrict_self)}) {
    EXPECT_EQ(layers_without(call, {}), "root names filter passed");
  }
  EXPECT_EQ(
      layers_without(SCMP_SYS(prctl),
                     {{.arg = 0, .op = SCMP_CMP_EQ, .datum_a = PR_SET_SECCOMP, .datum_b = 0}}),
      "root names landlock passed");
}

TEST(Sandbox, NeedsAPythonThatRuns) {
  EXPECT_THROW(Sandbox({}, "/nowhere/python3"), Error);
  try {
    const Sandbox sandbox({}, "/bin/true");
    FAIL() << "/bin/true is no Python";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kUnsupported);
    EXPECT_THAT(error.what(), HasSubstr("/bin/true cannot be run in a sandbox"));
  }
}

TEST(Sandbox, ManyAtOnce) {
  std::vector<std::thread> threads;
  std::array<int, 4> passed{};
  for (size_t t = 0; t < passed.size(); ++t) {
    threads.emplace_back([&passed, t] {
      for (int i = 0; i < 3; ++i) {
        passed[t] += full_sandbox().run(fmt::format("assert {} == {}", t, t), kPatient).passed();
        passed[t] += full_sandbox().run("assert False", kPatient).passed() ? 100 : 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_THAT(passed, ::testing::Each(3));
}

}  // namespace
}  // namespace restkv::eval
