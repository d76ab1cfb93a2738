#include "document/limited_program.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <utility>
#include <vector>

#include "base/descriptor.h"
#include "restkv/error.h"
#include "sandbox/landlock.h"

namespace restkv::document {
namespace {

using Clock = std::chrono::steady_clock;

/// What a program and its libraries may be made of.
constexpr std::array kSystemFolders{
    "/usr", "/lib", "/lib64", "/bin", "/nix/store", "/etc/fonts", "/var/cache/fontconfig"};
constexpr std::string_view kSystemFile = "/etc/ld.so.cache";
constexpr size_t kErrorBytes = 4096;
constexpr int kLowPriority = 10;
constexpr int kNotStarted = 127;

[[noreturn]] void fail(const std::string& path, const char* step) {
  throw Error(ErrorCode::kIo, fmt::format("{}: {}: {}", path, step, std::strerror(errno)));
}

/// A copy whose number is none of those that the child's standard streams get.
Descriptor above_standard(Descriptor fd) {
  if (!fd) return fd;
  return Descriptor(fcntl(fd.get(), F_DUPFD_CLOEXEC, STDERR_FILENO + 1));
}

struct Pipe {
  Descriptor read, write;
};

std::optional<Pipe> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) != 0) return std::nullopt;
  Pipe pipe{Descriptor(ends[0]), Descriptor(ends[1])};
  pipe.write = above_standard(std::move(pipe.write));
  return pipe;
}

/// A file in memory: nothing is left of it, and it can be sought in.
Descriptor file_of(std::string_view bytes) {
  Descriptor file = above_standard(Descriptor(memfd_create("input", MFD_CLOEXEC)));
  while (file && !bytes.empty()) {
    const ssize_t written = write(file.get(), bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) return Descriptor();
    bytes.remove_prefix(static_cast<size_t>(written));
  }
  if (file && lseek(file.get(), 0, SEEK_SET) != 0) return Descriptor();
  return file;
}

/// None: this kernel has no Landlock, or has it switched off.
Descriptor landlock_rules() {
  eval::LandlockRights rights;
  try {
    rights = eval::landlock_rights();
  } catch (const Error&) {
    return Descriptor();
  }
  Descriptor rules = above_standard(Descriptor(eval::make_landlock_rules(rights)));
  if (!rules) return rules;
  for (const char* folder : kSystemFolders) {
    (void)eval::add_landlock_rule(rules.get(), folder, rights.read_only());  // where it is there
  }
  (void)eval::add_landlock_rule(rules.get(), kSystemFile.data(),
                                rights.read_only() & rights.device());
  return rules;
}

struct Start {
  const char* path;
  char* const* arguments;
  int input, output, errors;
  int rules;  ///< -1: none.
  ProgramLimits limits;
};

bool limit(auto resource, size_t most) {
  const rlimit both{most, most};
  return setrlimit(resource, &both) == 0;
}

/// In the new process, a copy of one thread of many: only functions that take no lock.
[[noreturn]] void become(const Start& start) {
  const auto seconds = std::chrono::ceil<std::chrono::seconds>(start.limits.wall).count();
  sigset_t none;
  sigemptyset(&none);
  const bool ready =
      prctl(PR_SET_PDEATHSIG, SIGKILL) == 0 && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
      std::signal(SIGPIPE, SIG_DFL) != SIG_ERR && sigprocmask(SIG_SETMASK, &none, nullptr) == 0 &&
      dup2(start.input, STDIN_FILENO) >= 0 && dup2(start.output, STDOUT_FILENO) >= 0 &&
      dup2(start.errors, STDERR_FILENO) >= 0 && limit(RLIMIT_AS, start.limits.memory_bytes) &&
      limit(RLIMIT_CPU, static_cast<size_t>(seconds) + 1) && limit(RLIMIT_FSIZE, 0) &&
      limit(RLIMIT_CORE, 0) && (start.rules < 0 || eval::obey_landlock_rules(start.rules) == 0);
  if (ready) {
    (void)setpriority(PRIO_PROCESS, 0, kLowPriority);
    // Descriptors of libraries that were opened without O_CLOEXEC.
    (void)close_range(STDERR_FILENO + 1, ~0U, 0);
    char* const environment[] = {nullptr};
    execve(start.path, start.arguments, environment);
  }
  _exit(kNotStarted);
}

int milliseconds_until(Clock::time_point end) {
  const auto left = std::chrono::ceil<std::chrono::milliseconds>(end - Clock::now()).count();
  return static_cast<int>(std::max<decltype(left)>(0, left));
}

/// Reads both ends until the writer has closed them. False: time or room has run out.
bool collect(Descriptor output, Descriptor errors, size_t most, Clock::time_point end,
             ProgramResult& result) {
  std::array<pollfd, 2> ends{{{output.get(), POLLIN, 0}, {errors.get(), POLLIN, 0}}};
  std::array<char, 64 * 1024> block;
  while (ends[0].fd >= 0 || ends[1].fd >= 0) {
    const int left = milliseconds_until(end);
    if (left == 0) {
      result.end = ProgramResult::End::kTimedOut;
      return false;
    }
    if (poll(ends.data(), ends.size(), left) < 0) continue;
    for (pollfd& ready : ends) {
      if (ready.fd < 0 || ready.revents == 0) continue;
      const ssize_t size = read(ready.fd, block.data(), block.size());
      if (size < 0 && errno == EINTR) continue;
      if (size <= 0) {
        ready.fd = -1;
        continue;
      }
      const bool is_output = ready.fd == output.get();
      std::string& text = is_output ? result.output : result.errors;
      const size_t room = (is_output ? most : kErrorBytes) - text.size();
      text.append(block.data(), std::min(static_cast<size_t>(size), room));
      if (is_output && static_cast<size_t>(size) > room) {
        result.end = ProgramResult::End::kTooMuchOutput;
        return false;
      }
    }
  }
  return true;
}

/// The status of the child, which gets the rest of the time to end.
void await(pid_t child, Clock::time_point end, ProgramResult& result) {
  constexpr std::chrono::milliseconds kPause(5);
  int status = 0;
  while (true) {
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child || (ended < 0 && errno != EINTR)) break;
    if (Clock::now() >= end) {
      kill(child, SIGKILL);
      result.end = ProgramResult::End::kTimedOut;
      while (waitpid(child, &status, 0) < 0 && errno == EINTR) {
      }
      return;
    }
    poll(nullptr, 0, kPause.count());
  }
  const bool signalled = WIFSIGNALED(status);
  result.end = signalled ? ProgramResult::End::kSignalled : ProgramResult::End::kExited;
  result.value = signalled ? WTERMSIG(status) : WEXITSTATUS(status);
}

}  // namespace

std::optional<std::string> find_program(std::string_view name) {
  const char* const folders = std::getenv("PATH");
  std::string_view rest = folders != nullptr ? folders : "";
  while (!rest.empty()) {
    const size_t end = std::min(rest.find(':'), rest.size());
    const std::filesystem::path path = std::filesystem::path(rest.substr(0, end)) / name;
    rest.remove_prefix(std::min(end + 1, rest.size()));
    std::error_code ignored;
    if (path.is_absolute() && std::filesystem::is_regular_file(path, ignored) &&
        access(path.c_str(), X_OK) == 0) {
      return path.string();
    }
  }
  return std::nullopt;
}

ProgramResult run_limited(const std::string& path, std::initializer_list<const char*> arguments,
                          std::string_view input, const ProgramLimits& limits) {
  const Descriptor file = file_of(input);
  if (!file) fail(path, "cannot hold its input in memory");
  std::optional<Pipe> output = make_pipe();
  std::optional<Pipe> errors = make_pipe();
  if (!output || !errors || !output->write || !errors->write) fail(path, "cannot make a pipe");
  const Descriptor rules = landlock_rules();
  std::vector<std::string> copies{path};
  copies.insert(copies.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);

  const Start start{.path = path.c_str(),
                    .arguments = argv.data(),
                    .input = file.get(),
                    .output = output->write.get(),
                    .errors = errors->write.get(),
                    .rules = rules.get(),
                    .limits = limits};
  const Clock::time_point end = Clock::now() + limits.wall;
  const pid_t child = fork();
  if (child < 0) fail(path, "cannot start a process");
  if (child == 0) become(start);
  output->write.close();
  errors->write.close();
  ProgramResult result;
  if (collect(std::move(output->read), std::move(errors->read), limits.output_bytes, end, result)) {
    await(child, end, result);
  } else {
    kill(child, SIGKILL);
    while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
  if (result.end == ProgramResult::End::kExited && result.value == kNotStarted) {
    errno = ENOEXEC;
    fail(path, "cannot be started");
  }
  return result;
}

}  // namespace restkv::document
