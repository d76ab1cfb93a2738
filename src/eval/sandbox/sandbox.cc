#include "eval/sandbox/sandbox.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/capability.h>
#include <linux/sched.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <optional>
#include <span>
#include <utility>

#include "eval/sandbox/confine.h"
#include "eval/sandbox/driver.h"
#include "eval/sandbox/syscall_filter.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr size_t kReportLimit = 4096;  // bytes of what a program says on the way out

[[noreturn]] void out_of_resources(const char* step) {
  throw Error(ErrorCode::kIo, fmt::format("cannot start a sandboxed process: {}: {}; close other "
                                          "programs or raise the limits of this user (ulimit -a)",
                                          step, std::strerror(errno)));
}

class Descriptor {
 public:
  explicit Descriptor(int fd = -1) : fd_(fd) {}
  Descriptor(int fd, const char* step) : fd_(fd) {
    if (fd < 0) out_of_resources(step);
  }
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~Descriptor() { close(); }
  void close() {
    if (fd_ >= 0) ::close(std::exchange(fd_, -1));
  }
  [[nodiscard]] int get() const { return fd_; }

 private:
  int fd_;
};

/// A folder that goes away with what is in it.
class TemporaryFolder {
 public:
  TemporaryFolder() : path_((fs::temp_directory_path() / "restkv-sandbox-XXXXXX").string()) {
    if (mkdtemp(path_.data()) == nullptr) out_of_resources("mkdtemp");
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  [[nodiscard]] const std::string& path() const { return path_; }

 private:
  std::string path_;
};

/// Nothing a program can guess: what the driver says when the program has come to its end.
std::string random_token() {
  std::array<unsigned char, 16> bytes{};
  if (getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size())) {
    out_of_resources("getrandom");
  }
  return fmt::format("passed {:02x}", fmt::join(bytes, ""));
}

Descriptor source_file(const std::string& token, std::string_view program) {
  Descriptor file(memfd_create("program", MFD_CLOEXEC), "memfd_create");
  const std::string content = fmt::format("{}\n{}", token, program);
  for (size_t done = 0; done < content.size();) {
    const ssize_t n = write(file.get(), content.data() + done, content.size() - done);
    if (n < 0 && errno != EINTR) out_of_resources("write");
    if (n > 0) done += static_cast<size_t>(n);
  }
  lseek(file.get(), 0, SEEK_SET);
  return file;
}

/// A process group that ends with this object: the process, its group, and with a PID namespace
/// everything that ever came from it.
class Process {
 public:
  Process(pid_t pid, Descriptor handle) : pid_(pid), handle_(std::move(handle)) {}
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;
  ~Process() { end(); }

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// Readable when the process has ended.
  [[nodiscard]] int handle() const { return handle_.get(); }
  /// Kills what is left and returns the wait status.
  int end() {
    if (pid_ > 0) {
      kill(-pid_, SIGKILL);
      kill(pid_, SIGKILL);  // it may not have made its group yet
      while (waitpid(pid_, &status_, 0) < 0 && errno == EINTR) {
      }
      pid_ = -1;
    }
    return status_;
  }

 private:
  pid_t pid_;
  Descriptor handle_;
  int status_ = 0;
};

/// Like `fork`, with the namespaces and a handle to wait on. 0: this is the new process. The C
/// library does not hear of it, which is all right for what `confine` does.
pid_t fork_with(uint64_t namespaces, int& handle) {
  const auto flags = static_cast<unsigned long>(namespaces | CLONE_PIDFD | SIGCHLD);
  return static_cast<pid_t>(syscall(SYS_clone, flags, nullptr, &handle, nullptr, 0UL));
}

bool write_file(const std::string& path, std::string_view text) {
  const Descriptor file(open(path.c_str(), O_WRONLY | O_CLOEXEC));
  return file.get() >= 0 &&
         write(file.get(), text.data(), text.size()) == static_cast<ssize_t>(text.size());
}

/// Whether `id` is one of those that exist in this process's user namespace.
bool is_mapped(const char* map, uint64_t id) {
  std::ifstream file(map);
  uint64_t first = 0;
  uint64_t outside = 0;
  for (uint64_t count = 0; file >> first >> outside >> count;) {
    if (id >= first && id - first < count) return true;
  }
  return false;
}

/// Whether this process is root and has the right to be somebody else (in a container, it may not).
bool can_become_nobody() {
  uint64_t capabilities = 0;
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("CapEff:")) capabilities = std::stoull(line.substr(7), nullptr, 16);
  }
  constexpr uint64_t kNeeded = uint64_t{1} << CAP_SETUID | uint64_t{1} << CAP_SETGID;
  return geteuid() == 0 && (capabilities & kNeeded) == kNeeded &&
         is_mapped("/proc/self/uid_map", kNobody) && is_mapped("/proc/self/gid_map", kNobody);
}

/// Maps kNobody of the new user namespace to the one user it is to be outside.
std::optional<std::string> map_users(pid_t pid, bool drop_root) {
  const std::string folder = fmt::format("/proc/{}/", pid);
  const uid_t user = drop_root ? kNobody : geteuid();
  const gid_t group = drop_root ? kNobody : getegid();
  const bool mapped = (drop_root || write_file(folder + "setgroups", "deny")) &&
                      write_file(folder + "uid_map", fmt::format("{} {} 1", kNobody, user)) &&
                      write_file(folder + "gid_map", fmt::format("{} {} 1", kNobody, group));
  if (mapped) return {};
  return fmt::format("user map: {}", std::strerror(errno));
}

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

/// The parts of the file tree that Python needs, to be seen but not changed.
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

/// One printable line, whatever a program has written.
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

/// What all runs have in common.
struct Sandbox::Plan {
  bool drop_root = can_become_nobody();
  std::string python;
  std::vector<RootEntry> files = system_files();
  std::vector<sock_filter> filter;

  /// Empty, or why the sandbox could not be set up (`result` then says nothing).
  std::optional<std::string> try_run(const SandboxLayers& layers, std::string_view program,
                                     const SandboxLimits& limits, SandboxResult& result) const;
};

std::optional<std::string> Sandbox::Plan::try_run(const SandboxLayers& layers,
                                                  std::string_view program,
                                                  const SandboxLimits& limits,
                                                  SandboxResult& result) const {
  const std::string token = random_token();
  const Descriptor source = source_file(token, program);
  const Descriptor null(open("/dev/null", O_RDWR | O_CLOEXEC), "/dev/null");
  std::array<int, 2> ends{};
  if (pipe2(ends.data(), O_CLOEXEC) != 0) out_of_resources("pipe2");
  Descriptor report(ends[0]);
  Descriptor report_in(ends[1]);
  if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    out_of_resources("socketpair");
  }
  const Descriptor control(ends[0]);
  Descriptor control_in(ends[1]);

  std::optional<TemporaryFolder> folder;
  if (!layers.own_root) {
    folder.emplace();
    if (drop_root && chown(folder->path().c_str(), kNobody, kNobody) != 0)
      out_of_resources("chown");
  }
  const std::array<const char*, 5> arguments{python.c_str(), "-I", "-c", sandbox_driver(), nullptr};
  const Confinement confinement{
      .layers = layers,
      .drop_root = drop_root,
      .limits = limits,
      .folder = folder ? folder->path() : "/tmp",
      .root = files,
      .tmpfs_options = fmt::format("size={},nr_inodes=1000,mode=700", limits.file_bytes),
      .filter = filter,
      .arguments = arguments.data(),
      .null = null.get(),
      .report = report_in.get(),
      .source = source.get(),
      .control = control_in.get()};

  uint64_t namespaces = 0;
  if (layers.namespaces) {
    namespaces = CLONE_NEWUSER | CLONE_NEWNET | CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS;
  }
  if (layers.own_root) namespaces |= CLONE_NEWNS;
  int handle = -1;
  const pid_t pid = fork_with(namespaces, handle);
  if (pid == 0) confine(confinement);
  if (pid < 0 && layers.namespaces) return fmt::format("clone: {}", std::strerror(errno));
  if (pid < 0) out_of_resources("clone");
  Process process(pid, Descriptor(handle));
  report_in.close();
  control_in.close();

  if (layers.namespaces) {
    if (auto failed = map_users(pid, drop_root)) return failed;
  }
  if (send(control.get(), "", 1, MSG_NOSIGNAL) != 1) out_of_resources("send");
  ConfinementFailure failure;
  if (recv(control.get(), &failure, sizeof failure, MSG_WAITALL) != 0) {
    return fmt::format("{}: {}", failure.step.data(), std::strerror(failure.error));
  }

  // From here on it is Python that runs.
  const auto began = Clock::now();
  const auto deadline = began + limits.wall;
  std::string said;
  bool ended = false;
  bool late = false;
  while (!ended && !late) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    late = left.count() <= 0;
    if (late) break;
    std::array<pollfd, 2> events{pollfd{process.handle(), POLLIN, 0},
                                 pollfd{report.get(), POLLIN, 0}};
    if (poll(events.data(), events.size(), static_cast<int>(left.count())) <= 0) continue;
    if (events[1].revents != 0) {
      std::array<char, kReportLimit> block;
      const ssize_t n = read(report.get(), block.data(), block.size());
      if (n > 0) said.append(block.data(), static_cast<size_t>(n));
      if (n <= 0 || said.size() >= kReportLimit) report.close();
    } else {
      ended = events[0].revents != 0;  // and what it said before is read
    }
  }
  result.seconds = std::chrono::duration<double>(Clock::now() - began).count();
  const int status = process.end();
  if (late) {
    result.outcome = SandboxResult::Outcome::kTimedOut;
    result.message = "timed out";
  } else if (said.ends_with(token)) {
    result.outcome = SandboxResult::Outcome::kPassed;
    result.message = "passed";
  } else {
    result.outcome = SandboxResult::Outcome::kFailed;
    result.message = "failed: " + (said.empty() ? end_of_process(status) : one_line(said));
  }
  return {};
}

Sandbox::Sandbox(const SandboxLayers& wanted, const fs::path& python)
    : plan_(std::make_unique<Plan>()), layers_(wanted) {
  plan_->python = python.empty() ? find_python() : python;
  layers_.own_root = layers_.own_root && layers_.namespaces;

  std::string no_filter = "not wanted";
  if (layers_.system_calls) {
    try {
      plan_->filter = make_syscall_filter();
    } catch (const Error& error) {
      layers_.system_calls = false;
      no_filter = error.what();
    }
  }

  // Layers are given up one by one, the most demanding first.
  std::string no_root = "not wanted";
  std::string no_namespaces = "not wanted";
  for (;;) {
    SandboxResult result;
    const SandboxLimits generous{.wall = std::chrono::seconds(20)};
    const std::optional<std::string> failed = plan_->try_run(layers_, "pass", generous, result);
    if (!failed && result.passed()) break;
    const std::string why = failed ? *failed : result.message;
    if (layers_.own_root) {
      layers_.own_root = false;
      no_root = why;
    } else if (layers_.namespaces) {
      layers_.namespaces = false;
      no_namespaces = why;
    } else if (layers_.system_calls) {
      layers_.system_calls = false;
      no_filter = why;
    } else {
      throw Error(ErrorCode::kUnsupported,
                  fmt::format("{} cannot be run in a sandbox ({}); needed: Linux 5.9 or newer and "
                              "Python 3.6 or newer",
                              plan_->python, why));
    }
  }

  if (geteuid() == 0 && !plan_->drop_root) {
    missing_.emplace_back("root without the right to become another user: code runs as root");
  }
  if (!layers_.own_root) {
    missing_.push_back(
        fmt::format("no file tree of its own ({}): code can read and write what "
                    "this user can",
                    no_root));
  }
  if (!layers_.namespaces) {
    missing_.push_back(fmt::format(
        "no namespaces ({}): code {}", no_namespaces,
        layers_.system_calls ? "sees other processes; a system-call filter keeps it from the "
                               "network and from signals"
                             : "can use the network, signal other processes of this user and leave "
                               "processes behind"));
  }
  if (!layers_.system_calls) {
    missing_.push_back(
        fmt::format("no filter of system calls ({}): code meets the whole kernel", no_filter));
  }
}

Sandbox::~Sandbox() = default;

SandboxResult Sandbox::run(std::string_view program, const SandboxLimits& limits) const {
  SandboxResult result;
  if (const auto failed = plan_->try_run(layers_, program, limits, result)) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("the sandbox worked when it was tried, but now not: {}; nothing was "
                            "run with less isolation",
                            *failed));
  }
  return result;
}

}  // namespace restkv::eval
