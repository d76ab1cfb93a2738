#include "sandbox/sandbox.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <mutex>
#include <optional>
#include <utility>

#include "base/descriptor.h"
#include "restkv/error.h"
#include "sandbox/confine.h"
#include "sandbox/driver.h"
#include "sandbox/fork.h"
#include "sandbox/keeper.h"
#include "sandbox/messages.h"
#include "sandbox/missing_layers.h"
#include "sandbox/syscall_filter.h"
#include "sandbox/users.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;
using Kind = KeeperMessage::Kind;

constexpr size_t kReportLimit = 4096;  // bytes of a program's final report

[[noreturn]] void out_of_resources(const char* step) {
  throw Error(ErrorCode::kIo, fmt::format("cannot start a sandboxed process: {}: {}; close other "
                                          "programs or raise the limits of this user (ulimit -a)",
                                          step, std::strerror(errno)));
}

Descriptor opened(int fd, const char* step) {
  if (fd < 0) out_of_resources(step);
  return Descriptor(fd);
}

/// While it exists, no other process of this user can trace this process or open its memory.
class Untraceable {
 public:
  Untraceable() {
    const std::scoped_lock lock(mutex_);
    if (count_++ > 0) return;
    before_ = prctl(PR_GET_DUMPABLE);
    prctl(PR_SET_DUMPABLE, 0);
  }
  Untraceable(const Untraceable&) = delete;
  Untraceable& operator=(const Untraceable&) = delete;
  ~Untraceable() {
    const std::scoped_lock lock(mutex_);
    if (--count_ == 0 && before_ == 1) prctl(PR_SET_DUMPABLE, 1);
  }

 private:
  static inline std::mutex mutex_;
  static inline int count_ = 0;
  static inline int before_ = 0;
};

/// The word that the driver reports at the end of the program.
std::string random_token() {
  std::array<unsigned char, 16> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    out_of_resources("getrandom");
  }
  return fmt::format("passed {:02x}", fmt::join(bytes, ""));
}

Descriptor source_file(const std::string& token, std::string_view program) {
  Descriptor file = opened(memfd_create("program", MFD_CLOEXEC), "memfd_create");
  const std::string content = fmt::format("{}\n{}", token, program);
  for (size_t done = 0; done < content.size();) {
    const ssize_t n = write(file.get(), content.data() + done, content.size() - done);
    if (n < 0 && errno != EINTR) out_of_resources("write");
    if (n > 0) done += static_cast<size_t>(n);
  }
  lseek(file.get(), 0, SEEK_SET);
  return file;
}

/// A keeper with its processes; they end with this object.
class Keeper {
 public:
  Keeper(NewProcess process, Descriptor control)
      : pid_(process.pid), handle_(process.handle), control_(std::move(control)) {}
  Keeper(const Keeper&) = delete;
  Keeper& operator=(const Keeper&) = delete;
  ~Keeper() {
    control_.close();  // requests its end
    pollfd ended{handle_.get(), POLLIN, 0};
    constexpr int kPatience = 5000;  // milliseconds
    while (poll(&ended, 1, kPatience) < 0 && errno == EINTR) {
    }
    kill(pid_, SIGKILL);
    while (waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Readable when there is a message, or when the keeper has ended.
  [[nodiscard]] int control() const { return control_.get(); }
  /// The next message; none if the keeper has ended.
  [[nodiscard]] std::optional<KeeperMessage> listen() const {
    KeeperMessage message;
    ssize_t n = 0;
    while ((n = recv(control_.get(), &message, sizeof message, 0)) < 0 && errno == EINTR) {
    }
    if (n != sizeof message) return {};
    message.step.back() = '\0';
    return message;
  }
  void go_on() const { (void)send(control_.get(), "", 1, MSG_NOSIGNAL); }

 private:
  pid_t pid_;
  Descriptor handle_;
  Descriptor control_;
};

fs::path find_python() {
  for (const char* path : {"/usr/bin/python3", "/usr/local/bin/python3"}) {
    std::error_code ignored;
    fs::path found = fs::canonical(path, ignored);
    if (!ignored) return found;
  }
  throw Error(ErrorCode::kUnsupported,
              "running code needs python3 in /usr/bin or /usr/local/bin; install it (Debian: "
              "apt-get install python3)");
}

/// The read-only parts of the file tree that Python needs.
std::vector<RootEntry> system_files() {
  std::vector<RootEntry> entries;
  for (const char* name : {"usr", "bin", "lib", "lib32", "lib64"}) {
    const fs::path path = fs::path("/") / name;
    std::error_code ignored;
    if (fs::is_symlink(path, ignored)) {
      entries.push_back({RootEntry::Kind::kLink, fs::read_symlink(path, ignored), name});
    } else if (fs::is_directory(path, ignored)) {
      entries.push_back({RootEntry::Kind::kFolder, path, name});
    }
  }
  for (const char* name : {"dev/null", "dev/zero", "dev/urandom", "dev/random"}) {
    entries.push_back({RootEntry::Kind::kDevice, fs::path("/") / name, name});
  }
  return entries;
}

/// A program's output as one printable line.
std::string one_line(std::string_view text) {
  std::string line;
  for (const char c : text.substr(0, text.find('\n'))) {
    line += c >= ' ' && c <= '~' ? c : '?';
  }
  return line;
}

std::string end_of_process(int status) {
  if (WIFSIGNALED(status)) return fmt::format("ended by signal {}", WTERMSIG(status));
  return fmt::format("left with exit status {} before its end", WEXITSTATUS(status));
}

}  // namespace

/// Failure to set up the sandbox.
struct SetUpFailure {
  Layer layer = Layer::kNone;  ///< The failed layer, if known.
  std::string why;
};

/// Shared data of all runs.
struct Sandbox::Plan {
  bool drop_root = can_become_nobody();
  std::string python;
  std::vector<RootEntry> files = system_files();
  LandlockRights landlock;
  std::vector<sock_filter> filter;

  /// Runs a program. None on success; otherwise `result` is not set.
  std::optional<SetUpFailure> try_run(const SandboxLayers& layers, std::string_view program,
                                      const SandboxLimits& limits, SandboxResult& result) const;
};

std::optional<SetUpFailure> Sandbox::Plan::try_run(const SandboxLayers& layers,
                                                   std::string_view program,
                                                   const SandboxLimits& limits,
                                                   SandboxResult& result) const {
  const Untraceable untraceable;
  const std::string token = random_token();
  const Descriptor source = source_file(token, program);
  const Descriptor null = opened(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) out_of_resources("pipe2");
  Descriptor report(ends[0]);
  Descriptor report_in(ends[1]);
  if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    out_of_resources("socketpair");
  }
  Descriptor control(ends[0]);
  Descriptor control_in(ends[1]);

  const std::array<const char*, 5> arguments{python.c_str(), "-I", "-c", sandbox_driver(), nullptr};
  Confinement confinement{
      .layers = layers,
      .drop_root = drop_root,
      .limits = limits,
      .root = files,
      .tmpfs_options = fmt::format("size={},nr_inodes=1000,mode=700", limits.file_bytes),
      .landlock = landlock,
      .filter = filter,
      .arguments = arguments.data()};
  // The kernel counts all processes of the user in the namespace: the keeper and, without a
  // namespace, all others.
  const uid_t user = drop_root ? kNobody : getuid();
  confinement.limits.processes += 1 + (layers.namespaces ? 0 : threads_of(user));

  uint64_t namespaces = 0;
  if (layers.namespaces) {
    namespaces = CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
  }
  if (layers.own_root) namespaces |= CLONE_NEWNS;
  const NewProcess process = fork_with(namespaces);
  if (process.pid == 0) {
    keep(confinement, {null.get(), report_in.get(), source.get(), control_in.get()});
  }
  if (process.pid < 0 && layers.namespaces) {
    return SetUpFailure{Layer::kNamespaces, fmt::format("clone: {}", std::strerror(errno))};
  }
  if (process.pid < 0) out_of_resources("clone");
  const Keeper keeper(process, std::move(control));
  report_in.close();
  control_in.close();

  for (;;) {
    const std::optional<KeeperMessage> message = keeper.listen();
    if (!message) return SetUpFailure{Layer::kNone, "its process was killed"};
    if (message->kind == Kind::kStarted) break;
    if (message->kind == Kind::kFailed) {
      return SetUpFailure{message->layer, fmt::format("{}: {}", message->step.data(),
                                                      std::strerror(message->value))};
    }
    if (layers.namespaces) {
      if (auto failed = map_users(keeper.pid(), drop_root)) {
        return SetUpFailure{Layer::kNamespaces, *failed};
      }
    }
    keeper.go_on();
  }

  // From here on Python runs.
  const auto began = Clock::now();
  const auto deadline = began + limits.wall;
  std::string said;
  std::string end;
  bool late = false;
  while (end.empty() && !late) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    late = left.count() <= 0;
    if (late) break;
    std::array<pollfd, 2> events{pollfd{keeper.control(), POLLIN, 0},
                                 pollfd{report.get(), POLLIN, 0}};
    if (poll(events.data(), events.size(), static_cast<int>(left.count())) <= 0) continue;
    if (events[1].revents != 0) {
      std::array<char, kReportLimit> block;
      const ssize_t n = read(report.get(), block.data(), block.size());
      if (n > 0) said.append(block.data(), static_cast<size_t>(n));
      if (n <= 0 || said.size() >= kReportLimit) report.close();
    } else if (events[0].revents != 0) {  // and what it said before is read
      const std::optional<KeeperMessage> message = keeper.listen();
      end = message ? end_of_process(message->value) : "killed from outside";
    }
  }
  result.seconds = std::chrono::duration<double>(Clock::now() - began).count();
  if (late) {
    result.outcome = SandboxResult::Outcome::kTimedOut;
    result.message = "timed out";
  } else if (said.ends_with(token)) {
    result.outcome = SandboxResult::Outcome::kPassed;
    result.message = "passed";
  } else {
    result.outcome = SandboxResult::Outcome::kFailed;
    result.message = "failed: " + (said.empty() ? end : one_line(said));
  }
  return {};
}

Sandbox::Sandbox(const SandboxLayers& wanted, const fs::path& python)
    : plan_(std::make_unique<Plan>()), layers_(wanted) {
  plan_->python = python.empty() ? find_python() : python;
  LayerReasons reasons;
  const auto give_up = [&](Layer layer, const std::string& why) {
    layer_flag(layers_, layer) = false;
    reasons[static_cast<size_t>(layer)] = why;
  };

  // Layers are dropped one by one until a program runs.
  for (;;) {
    layers_.own_root = layers_.own_root && layers_.namespaces;
    SandboxResult result;
    std::optional<SetUpFailure> failed;
    try {
      if (layers_.landlock) plan_->landlock = landlock_rights();
    } catch (const Error& error) {
      failed = {Layer::kLandlock, error.what()};
    }
    try {
      if (layers_.system_calls) plan_->filter = make_syscall_filter(layers_.own_root);
    } catch (const Error& error) {
      failed = {Layer::kSystemCalls, error.what()};
    }
    if (!failed) {
      const SandboxLimits generous{.wall = std::chrono::seconds(20)};
      failed = plan_->try_run(layers_, "pass", generous, result);
      if (!failed && result.passed()) break;
      if (!failed) failed = {Layer::kNone, result.message};
    }
    if (failed->layer == Layer::kNone) failed->layer = first_layer(layers_);
    if (failed->layer == Layer::kNone) {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{} cannot be run in a sandbox ({}); needed: Linux 5.9 or newer and "
                              "Python 3.6 or newer",
                              plan_->python, failed->why));
    }
    give_up(failed->layer, failed->why);
  }
  missing_ = missing_layers(layers_, reasons, geteuid() == 0 && !plan_->drop_root);
}

Sandbox::~Sandbox() = default;

SandboxResult Sandbox::run(std::string_view program, const SandboxLimits& limits) const {
  SandboxResult result;
  if (const auto failed = plan_->try_run(layers_, program, limits, result)) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("the sandbox worked when it was tried, but now not: {}; nothing was "
                            "run with less isolation",
                            failed->why));
  }
  return result;
}

}  // namespace restkv::eval
