#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "base/file.h"
#include "sandbox/sandboxes.h"

// Programs that were written to get out, on processes and files that belong to the same user as
// they do: the sandbox and its victims are those of an ordinary user, for root has the better cards
// (its programs become another user).
namespace restkv::eval {
namespace {

namespace fs = std::filesystem;
using test::Child;
using test::expect_pass;
using test::failure;
using test::full_sandbox;
using test::kPatient;
using test::reasons;
using test::sandbox_without_namespaces;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// By whether namespaces are there: given up by the sandbox, or forbidden to this user.
enum class Machine { kAllLayers, kNoNamespacesWanted, kNoNamespacesPermitted };

void PrintTo(Machine machine, std::ostream* out) {
  *out << std::array{"all_layers", "no_namespaces_wanted",
                     "no_namespaces_permitted"}[static_cast<size_t>(machine)];
}

class Attacks : public testing::TestWithParam<Machine> {
 protected:
  /// What happens to `act`, which gets the machine's best sandbox, in a process of an ordinary
  /// user.
  static std::string with_sandbox(const std::function<std::string(const Sandbox&)>& act) {
    Child restkv([&]() -> std::string {
      test::become_ordinary_user();
      if (GetParam() == Machine::kNoNamespacesPermitted && !test::lose_user_namespaces()) {
        return "skip: user namespaces cannot be forbidden here";
      }
      const Sandbox sandbox(GetParam() == Machine::kNoNamespacesWanted
                                ? SandboxLayers{.namespaces = false, .own_root = false}
                                : SandboxLayers{});
      if (!sandbox.layers().system_calls || !sandbox.layers().landlock) {
        return "skip: " + reasons(sandbox);
      }
      if (sandbox.layers().namespaces != (GetParam() == Machine::kAllLayers)) {
        return "skip: " + reasons(sandbox);
      }
      return act(sandbox);
    });
    return restkv.said();
  }
};

/// The same with the layers given, whether or not all of them are there.
std::string with_layers(const SandboxLayers& layers,
                        const std::function<std::string(const Sandbox&)>& act) {
  Child restkv([&]() -> std::string {
    test::become_ordinary_user();
    const Sandbox sandbox(layers);
    if (sandbox.layers().landlock != layers.landlock ||
        sandbox.layers().system_calls != layers.system_calls) {
      return "skip: " + reasons(sandbox);
    }
    return act(sandbox);
  });
  return restkv.said();
}

#define EXPECT_THAT_OR_SKIP(said, matcher)                                \
  do {                                                                    \
    const std::string text = (said);                                      \
    if (text.starts_with("skip: ")) GTEST_SKIP() << "not here: " << text; \
    EXPECT_THAT(text, matcher);                                           \
  } while (false)

/// Another process of this user, which does not defend itself.
std::string sleep_long() {
  sleep(60);
  return {};
}

/// A program that fails with a list of what it managed to do.
class Attempts {
 public:
  explicit Attempts(const std::string& preparation) : program_(preparation + "\ndone = []\n") {}
  Attempts& add(const std::string& name, const std::string& expression) {
    program_ +=
        fmt::format("try:\n  {}\n  done.append('{}')\nexcept OSError: pass\n", expression, name);
    return *this;
  }
  [[nodiscard]] std::string program() const {
    return program_ + "raise Exception('done: ' + ', '.join(done) + '.')";
  }

 private:
  std::string program_;
};
constexpr const char* kNothing = "failed: Exception: done: .";

std::string reach_memory(pid_t restkv, pid_t victim) {
  Attempts attempts(
      "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\n"
      "def check(result):\n  if result < 0: raise OSError(ctypes.get_errno(), '')");
  for (const auto& [name, pid] : {std::pair{"restkv", std::to_string(restkv)},
                                  {"victim", std::to_string(victim)},
                                  {"parent", std::string("{os.getppid()}")}}) {
    for (const char* file : {"maps", "environ"}) {
      attempts.add(fmt::format("read {} of {}", file, name),
                   fmt::format("open(f'/proc/{}/{}', 'rb').read()", pid, file));
    }
    attempts.add(fmt::format("open memory of {}", name),
                 fmt::format("open(f'/proc/{}/mem', 'r+b', buffering=0)", pid));
    attempts.add(fmt::format("trace {}", name),
                 fmt::format("check(libc.ptrace(16, int(f'{}'), 0, 0))", pid));
  }
  return attempts.program();
}

std::string attack_memory(const Sandbox& sandbox) {
  const Child victim(sleep_long);
  return sandbox.run(reach_memory(getpid(), victim.pid()), kPatient).message;
}

TEST_P(Attacks, TheMemoryOfOthersIsOutOfReach) {
  EXPECT_THAT_OR_SKIP(with_sandbox(attack_memory), kNothing);
}

/// That the attempts are right, and that restkv keeps its memory to itself even with no layers.
TEST(Attacks, WithoutLayersRestkvStillKeepsItsMemory) {
  const std::string said = with_layers(test::kNoLayers, attack_memory);
  EXPECT_THAT(said, AllOf(HasSubstr("read maps of victim"), Not(HasSubstr("of restkv")),
                          Not(HasSubstr("trace restkv")), Not(HasSubstr("of parent"))));
  // Where Yama lets nobody trace but parents, it is one that sees to it.
  if (!fs::exists("/proc/sys/kernel/yama/ptrace_scope")) {
    EXPECT_THAT(said, AllOf(HasSubstr("open memory of victim"), HasSubstr("trace victim")));
  }
}

TEST(Attacks, TheFilterAloneKeepsFromWritingMemory) {
  EXPECT_THAT_OR_SKIP(with_layers(test::kFilterOnly, attack_memory),
                      AllOf(HasSubstr("read maps of victim"), Not(HasSubstr("memory")),
                            Not(HasSubstr("trace")), Not(HasSubstr("of restkv"))));
}

/// Ways to SIGKILL `victim` that go round kill.
std::string signal_without_kill(pid_t victim) {
  return Attempts(fmt::format(R"(
import fcntl, os, socket, struct, time
victim = {}
def arm(set_owner):
    r, w = os.pipe()
    set_owner(r)
    fcntl.fcntl(r, 10, 9)  # F_SETSIG
    fcntl.fcntl(r, fcntl.F_SETFL, fcntl.fcntl(r, fcntl.F_GETFL) | 0o20000)  # O_ASYNC
    os.write(w, b'x')
    time.sleep(0.2))",
                              victim))
      .add("F_SETOWN", "arm(lambda r: fcntl.fcntl(r, fcntl.F_SETOWN, victim))")
      .add("F_SETOWN_EX", "arm(lambda r: fcntl.fcntl(r, 15, struct.pack('ii', 1, victim)))")
      .add("FIOSETOWN", "fcntl.ioctl(socket.socketpair()[0], 0x8901, struct.pack('i', victim))")
      .add("SIOCSPGRP", "fcntl.ioctl(socket.socketpair()[0], 0x8902, struct.pack('i', victim))")
      .add("affinity", "os.sched_setaffinity(victim, os.sched_getaffinity(0))")
      .add("scheduler", "os.sched_setscheduler(victim, os.SCHED_BATCH, os.sched_param(0))")
      .add("priority", "os.setpriority(os.PRIO_PROCESS, victim, 19)")
      .program();
}

std::string attack_by_signal(const Sandbox& sandbox) {
  const Child victim(sleep_long);
  std::string said = sandbox.run(signal_without_kill(victim.pid()), kPatient).message;
  if (waitpid(victim.pid(), nullptr, WNOHANG) != 0) said += " The victim is dead";
  return said;
}

TEST_P(Attacks, SignalsDoNotGoRoundKill) {
  EXPECT_THAT_OR_SKIP(with_sandbox(attack_by_signal), kNothing);
  // restkv itself, which would have nothing to say if it were dead.
  EXPECT_THAT_OR_SKIP(with_sandbox([](const Sandbox& sandbox) {
                        return sandbox.run(signal_without_kill(getpid()), kPatient).message;
                      }),
                      kNothing);
}

TEST(Attacks, SignalsWouldGoRoundKill) {
  EXPECT_THAT(with_layers(test::kNoLayers, attack_by_signal),
              AllOf(HasSubstr("done: F_SETOWN"), HasSubstr("The victim is dead")));
}

/// A folder of the user that runs the sandbox, in a child.
class Home {
 public:
  Home() : path_((fs::temp_directory_path() / "restkv-home-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp");
    std::ofstream(file()) << "swordfish";
  }
  Home(const Home&) = delete;
  Home& operator=(const Home&) = delete;
  ~Home() { fs::remove_all(path_); }
  [[nodiscard]] std::string file() const { return path_ + "/secret"; }
  [[nodiscard]] const std::string& path() const { return path_; }
  /// What can be told from outside whether something was done to the file.
  [[nodiscard]] std::string state() const {
    struct stat s {};
    if (stat(file().c_str(), &s) != 0) return "gone";
    return fmt::format("{} {:o} {} {}.{}", read_file(file()), s.st_mode, s.st_nlink,
                       s.st_mtim.tv_sec, s.st_mtim.tv_nsec);
  }

 private:
  std::string path_;
};

std::string reach_files(const Home& home) {
  Attempts attempts(
      fmt::format("import posix, os\nhome = '{}'\nfile = home + '/secret'", home.path()));
  attempts.add("read", "open(file).read()")
      .add("list", "posix.listdir(home)")
      .add("write", "open(file, 'r+')")
      .add("append", "open(file, 'a')")
      .add("cut on opening", "posix.open(file, os.O_RDONLY | os.O_TRUNC)")
      .add("cut", "posix.truncate(file, 0)")
      .add("mode", "posix.chmod(file, 0o777)")
      .add("mode of folder", "posix.chmod(home, 0o777)")
      .add("time", "posix.utime(file, (1, 1))")
      .add("attribute", "posix.setxattr(file, 'user.x', b'y')")
      .add("link", "posix.link(file, home + '/link')")
      .add("symbolic link", "posix.symlink(file, home + '/symlink')")
      .add("new file", "open(home + '/new', 'w')")
      .add("new folder", "posix.mkdir(home + '/folder')")
      .add("rename", "posix.rename(file, home + '/other')")
      .add("remove", "posix.unlink(file)");
  return attempts.program();
}

std::string attack_files(const Sandbox& sandbox) {
  const Home home;
  const std::string before = home.state();
  std::string said = sandbox.run(reach_files(home), kPatient).message;
  if (home.state() != before) said += " The file has changed";
  return said;
}

TEST_P(Attacks, FilesOfTheUserAreOutOfReach) {
  EXPECT_THAT_OR_SKIP(with_sandbox(attack_files), kNothing);
}

TEST(Attacks, FilesWouldBeWithinReach) {
  EXPECT_THAT(with_layers(test::kNoLayers, attack_files),
              AllOf(HasSubstr("read, list, write, append, cut on opening, cut, mode"),
                    HasSubstr("rename"), HasSubstr("The file has changed")));
}

TEST(Attacks, TheFilterAloneKeepsFilesAsTheyAre) {
  EXPECT_THAT_OR_SKIP(with_layers(test::kFilterOnly, attack_files),
                      "failed: Exception: done: read, list.");
}

/// It does not know attributes, and older ones not cutting.
TEST(Attacks, LandlockAloneHidesFilesAndMemory) {
  EXPECT_THAT_OR_SKIP(
      with_layers(test::kLandlockOnly, attack_files),
      AllOf(HasSubstr("mode"), Not(HasSubstr("read")), Not(HasSubstr("list")),
            Not(HasSubstr("write")), Not(HasSubstr("append")), Not(HasSubstr("link")),
            Not(HasSubstr("new")), Not(HasSubstr("rename")), Not(HasSubstr("remove"))));
  EXPECT_THAT_OR_SKIP(with_layers(test::kLandlockOnly, attack_memory), kNothing);
}

/// A datagram socket with a name, as the system's logger has.
class Mailbox {
 public:
  explicit Mailbox(const std::string& path) : fd_(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0)) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    path.copy(address.sun_path, sizeof address.sun_path - 1);
    if (bind(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
      throw std::runtime_error("bind");
    }
  }
  Mailbox(const Mailbox&) = delete;
  Mailbox& operator=(const Mailbox&) = delete;
  ~Mailbox() { close(fd_); }
  [[nodiscard]] std::string mail() const {
    std::array<char, 64> block;
    const ssize_t n = recv(fd_, block.data(), block.size(), MSG_DONTWAIT);
    return n < 0 ? "" : std::string(block.data(), static_cast<size_t>(n));
  }

 private:
  int fd_;
};

std::string send_mail(const Home& home) {
  return Attempts(fmt::format("import socket\npath = '{}/mail'", home.path()))
      .add("pair", "socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)[0].sendto(b'hi', path)")
      .add("raw pair", "socket.socketpair(socket.AF_UNIX, socket.SOCK_RAW)[0].sendto(b'hi', path)")
      .add("stream pair", "socket.socketpair()[0].sendto(b'hi', path)")
      .add("message", "socket.socketpair()[0].sendmsg([b'hi'], [], 0, path)")
      .add("socket", "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'hi', path)")
      .program();
}

std::string attack_mailbox(const Sandbox& sandbox) {
  const Home home;
  const Mailbox mailbox(home.path() + "/mail");
  const std::string said = sandbox.run(send_mail(home), kPatient).message;
  return said + mailbox.mail();
}

TEST_P(Attacks, SocketsWithNamesAreOutOfReach) {
  EXPECT_THAT_OR_SKIP(with_sandbox(attack_mailbox), kNothing);
}

TEST(Attacks, SocketsWouldBeWithinReach) {
  EXPECT_THAT(with_layers(test::kNoLayers, attack_mailbox),
              AllOf(HasSubstr("done: pair, raw pair"), HasSubstr("socket.hi")));
}

INSTANTIATE_TEST_SUITE_P(On, Attacks,
                         testing::Values(Machine::kAllLayers, Machine::kNoNamespacesWanted,
                                         Machine::kNoNamespacesPermitted),
                         testing::PrintToStringParamName());

/// Memory that the limit of the address space does not count.
TEST(Attacks, ThereIsNoMemoryBesideTheLimit) {
  NEEDS(system_calls, full_sandbox());
  const std::string hoard = R"(
import fcntl, os, posix
held = 0
block = bytes(1 << 20)
def fill(fd):
    global held
    try:
        while True: held += os.write(fd, block)
    except OSError: pass
kept = []
for i in range(60):
    try:
        fd = os.memfd_create('x')
        kept.append(fd); fill(fd)
    except OSError: pass
    try:
        fd = os.open('x', os.O_RDWR | os.O_CREAT)
        kept.append(fd); fill(fd)
        posix.unlink('x')
    except OSError: pass
for i in range(30):
    try:
        r, w = os.pipe()
        kept += [r, w]
        os.set_blocking(w, False)
        try: fcntl.fcntl(w, 1031, 1 << 20)  # F_SETPIPE_SZ
        except OSError: pass
        fill(w)
    except OSError: pass
raise Exception(f'held {held >> 20} MiB')
)";
  for (const Sandbox* sandbox : {&full_sandbox(), &sandbox_without_namespaces()}) {
    const std::string said = failure(*sandbox, hoard);
    ASSERT_THAT(said, StartsWith("failed: Exception: held "));
    // The tmpfs of 16 MiB, and pipes of 64 KiB.
    EXPECT_LE(std::stoi(said.substr(said.find("held ") + 5)), 19) << said;
  }
}

/// Whatever becomes of restkv.
TEST(Attacks, NothingIsLeftAmongTheTemporaryFiles) {
  const auto ours = [] {
    std::map<std::string, int> names;
    for (const fs::directory_entry& entry : fs::directory_iterator(fs::temp_directory_path())) {
      const std::string name = entry.path().filename().string();
      if (name.starts_with("restkv-sandbox")) ++names[name];
    }
    return names;
  };
  const auto before = ours();
  for (const Sandbox* sandbox : {&full_sandbox(), &sandbox_without_namespaces()}) {
    Child restkv([&] {
      return sandbox
          ->run(test::take_process_name() + "import time; time.sleep(600)",
                {.wall = std::chrono::minutes(10)})
          .message;
    });
    ASSERT_TRUE(test::processes_become(1));
    EXPECT_EQ(ours(), before);
    restkv.kill();
    EXPECT_EQ(ours(), before);
    EXPECT_TRUE(test::processes_become(0));
  }
}

/// Not kept in, and said in docs/benchmarks.md: a program shares its interpreter with the driver.
TEST(Attacks, AProgramThatLooksForTheTokenCheats) {
  expect_pass(full_sandbox(), R"(
import os, sys
frame = sys._getframe()
while 'token' not in frame.f_locals: frame = frame.f_back
os.write(3, frame.f_locals['token'])
os._exit(0)
)");
}

}  // namespace
}  // namespace restkv::eval
