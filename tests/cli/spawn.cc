#include "cli/spawn.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <stdexcept>
#include <string_view>

#include "base/descriptor.h"

namespace restkv::testing {
namespace {

constexpr std::chrono::seconds kTimeLimit(120);

struct Pipe {
  Pipe() {
    std::array<int, 2> fds{};
    if (pipe2(fds.data(), O_CLOEXEC) != 0) throw std::runtime_error("pipe2 failed");
    read = Descriptor(fds[0]);
    write = Descriptor(fds[1]);
  }
  Descriptor read, write;
};

/// Appends what can be read now; closes the end when there will be no more.
void drain(Descriptor& end, std::string& text) {
  std::array<char, 4096> block;
  const ssize_t size = ::read(end.get(), block.data(), block.size());
  if (size > 0) {
    text.append(block.data(), static_cast<size_t>(size));
  } else {
    end.close();
  }
}

std::vector<std::string> environment_of(const Spawn& spawn) {
  std::vector<std::string> variables = spawn.environment;
  for (char** each = environ; *each != nullptr; ++each) {
    const std::string_view variable = *each;
    const bool is_setting = variable.starts_with("RESTKV_MODEL") || variable.starts_with("HF_");
    if (!is_setting) variables.emplace_back(variable);
  }
  return variables;
}

pid_t start(const Spawn& spawn, const Pipe& in, const Pipe& out, const Pipe& err) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.read.get(), STDIN_FILENO);
  if (spawn.stdout_path.empty()) {
    posix_spawn_file_actions_adddup2(&actions, out.write.get(), STDOUT_FILENO);
  } else {
    posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, spawn.stdout_path.c_str(), O_WRONLY,
                                     0);
  }
  posix_spawn_file_actions_adddup2(&actions, err.write.get(), STDERR_FILENO);

  // The child must not inherit that this process ignores SIGPIPE.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t defaults;
  sigemptyset(&defaults);
  sigaddset(&defaults, SIGPIPE);
  sigaddset(&defaults, SIGINT);
  posix_spawnattr_setsigdefault(&attributes, &defaults);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);

  std::vector<std::string> arguments = spawn.arguments;
  arguments.insert(arguments.begin(), restkv_program());
  arguments.insert(arguments.begin(), spawn.through.begin(), spawn.through.end());
  std::vector<char*> argv;
  for (std::string& argument : arguments) argv.push_back(argument.data());
  argv.push_back(nullptr);
  std::vector<std::string> environment = environment_of(spawn);
  std::vector<char*> envp;
  for (std::string& variable : environment) envp.push_back(variable.data());
  envp.push_back(nullptr);
  pid_t pid = 0;
  const int error = posix_spawnp(&pid, argv[0], &actions, &attributes, argv.data(), envp.data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error("cannot start " + arguments.front());
  return pid;
}

}  // namespace

std::string restkv_program() { return RESTKV_CLI; }

Outcome restkv_process(const Spawn& spawn) {
  std::signal(SIGPIPE, SIG_IGN);  // a child may end without reading its input
  Pipe in;
  Pipe out;
  Pipe err;
  if (spawn.reader_gone) out.read.close();
  if (spawn.nonblocking_stdout) {
    fcntl(out.write.get(), F_SETFL, O_WRONLY | O_NONBLOCK);
    fcntl(out.write.get(), F_SETPIPE_SZ, 4096);
  }
  const pid_t pid = start(spawn, in, out, err);
  in.read.close();
  out.write.close();
  err.write.close();

  const auto deadline = std::chrono::steady_clock::now() + kTimeLimit;
  Outcome outcome;
  size_t fed = 0;
  bool interrupted = false;
  while (out.read.get() >= 0 || err.read.get() >= 0) {
    if (fed == spawn.input.size() && !spawn.keep_input_open) in.write.close();
    std::array<pollfd, 3> ends{pollfd{out.read.get(), POLLIN, 0}, pollfd{err.read.get(), POLLIN, 0},
                               pollfd{fed < spawn.input.size() ? in.write.get() : -1, POLLOUT, 0}};
    poll(ends.data(), ends.size(), 1000);
    if (ends[0].revents != 0) drain(out.read, outcome.out);
    if (ends[1].revents != 0) drain(err.read, outcome.err);
    if (ends[2].revents != 0) {
      // A pipe that is ready takes a page without blocking.
      const std::string part = spawn.input.substr(fed, 4096);
      const ssize_t written = write(in.write.get(), part.data(), part.size());
      fed = written > 0 ? fed + static_cast<size_t>(written) : spawn.input.size();
    }
    if (!interrupted && spawn.interrupt_when && spawn.interrupt_when(outcome)) {
      kill(pid, spawn.interrupt_with);
      interrupted = true;
    }
    if (std::chrono::steady_clock::now() > deadline) {
      ADD_FAILURE() << "restkv took too long; it said: " << outcome.out << outcome.err;
      kill(pid, SIGKILL);
      break;
    }
  }
  int status = 0;
  waitpid(pid, &status, 0);
  if (WIFEXITED(status)) outcome.exit_code = WEXITSTATUS(status);
  if (WIFSIGNALED(status)) outcome.signal = WTERMSIG(status);
  EXPECT_EQ(interrupted, spawn.interrupt_when != nullptr) << "it ended before the signal was sent";
  return outcome;
}

Outcome restkv_process(const std::vector<std::string>& arguments) {
  return restkv_process(Spawn{.arguments = arguments});
}

}  // namespace restkv::testing
