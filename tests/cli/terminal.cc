#include "cli/terminal.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <utility>

#include "cli/spawn.h"

namespace restkv::testing {
namespace {

constexpr std::chrono::seconds kTimeLimit(120);

/// This process's environment, with a terminal that understands cursor movements.
std::vector<std::string> environment() {
  std::vector<std::string> variables{"TERM=xterm"};
  for (char** v = environ; *v != nullptr; ++v) {
    if (!std::string_view(*v).starts_with("TERM=")) variables.emplace_back(*v);
  }
  return variables;
}

std::vector<char*> pointers(std::vector<std::string>& texts) {
  std::vector<char*> result;
  result.reserve(texts.size() + 1);
  for (std::string& text : texts) result.push_back(text.data());
  result.push_back(nullptr);
  return result;
}

}  // namespace

Terminal::Terminal(std::vector<std::string> arguments)
    : Terminal(restkv_program(), std::move(arguments)) {}

Terminal::Terminal(const std::string& program, std::vector<std::string> arguments) {
  fd_ = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  std::array<char, 128> name{};
  if (fd_ < 0 || grantpt(fd_) != 0 || unlockpt(fd_) != 0 ||
      ptsname_r(fd_, name.data(), name.size()) != 0) {
    throw std::runtime_error("no pseudo terminal");
  }
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  // The first terminal that the leader of a session opens is the one whose Ctrl-C it gets.
  posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, name.data(), O_RDWR, 0);
  posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDOUT_FILENO);
  posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, STDERR_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSID);

  arguments.insert(arguments.begin(), program);
  std::vector<std::string> variables = environment();
  const int error = posix_spawnp(&pid_, program.c_str(), &actions, &attributes,
                                 pointers(arguments).data(), pointers(variables).data());
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error != 0) throw std::runtime_error("cannot start " + program);
}

Terminal::~Terminal() {
  if (pid_ > 0) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  close(fd_);
}

void Terminal::type(std::string_view keys) const {
  ASSERT_EQ(write(fd_, keys.data(), keys.size()), static_cast<ssize_t>(keys.size()));
}

bool Terminal::read_some() {
  pollfd end{fd_, POLLIN, 0};
  if (poll(&end, 1, 1000) == 0) return true;
  std::array<char, 4096> block;
  const ssize_t size = read(fd_, block.data(), block.size());
  if (size <= 0) return false;  // EIO: nobody has the terminal open any more
  shown_.append(block.data(), static_cast<size_t>(size));
  return true;
}

std::string Terminal::wait_for(std::string_view text) {
  const auto deadline = std::chrono::steady_clock::now() + kTimeLimit;
  while (true) {
    const size_t at = shown_.find(text);
    if (at != std::string::npos) {
      std::string result = shown_.substr(0, at + text.size());
      shown_.erase(0, result.size());
      return result;
    }
    if (!read_some() || std::chrono::steady_clock::now() > deadline) {
      ADD_FAILURE() << "\"" << text << "\" was not shown, but: " << shown_;
      return {};
    }
  }
}

int Terminal::wait() {
  const auto deadline = std::chrono::steady_clock::now() + kTimeLimit;
  while (read_some()) {
    if (std::chrono::steady_clock::now() > deadline) {
      ADD_FAILURE() << "the program did not end; it showed: " << shown_;
      return -1;
    }
  }
  int status = 0;
  waitpid(pid_, &status, 0);
  pid_ = 0;
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

}  // namespace restkv::testing
