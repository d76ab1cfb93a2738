#include "bench/child.h"

#include <fmt/format.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "restkv/error.h"

namespace restkv::bench {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

[[noreturn]] void fail(std::string_view what, const char* step) {
  throw Error(ErrorCode::kIo, fmt::format("{}: {}: {}", what, step, std::strerror(errno)));
}

/// Files are used instead of pipes: no side waits for the other or writes to an ended one.
File temporary_file(std::string_view what) {
  File file(std::tmpfile(), std::fclose);
  if (file == nullptr) fail(what, "cannot create a temporary file");
  return file;
}

std::string read_all(std::FILE* file) {
  std::string text;
  if (std::fseek(file, 0, SEEK_SET) != 0) fail("a temporary file", "cannot read it from the start");
  std::array<char, 4096> block;
  while (const size_t size = std::fread(block.data(), 1, block.size(), file)) {
    text.append(block.data(), size);
  }
  return text;
}

void require_success(int status, std::string_view what) {
  if (WIFSIGNALED(status)) {
    // Ctrl-C at a terminal reaches both processes.
    if (WTERMSIG(status) == SIGINT || WTERMSIG(status) == SIGTERM) {
      throw Error(ErrorCode::kInterrupted, "interrupted");
    }
    const char* hint = WTERMSIG(status) == SIGKILL ? "; probably too little memory, use a smaller "
                                                     "model or shorter prompts"
                                                   : "";
    throw Error(ErrorCode::kInput, fmt::format("{}: the process was ended by signal {}{}", what,
                                               WTERMSIG(status), hint));
  }
  if (WEXITSTATUS(status) != 0) {
    throw Error(ErrorCode::kInput, fmt::format("{}: failed with exit code {}; the reason is above",
                                               what, WEXITSTATUS(status)));
  }
}

}  // namespace

ChildResult run_program(const std::string& program, std::span<const std::string> arguments,
                        std::string_view input, std::string_view what,
                        const std::function<bool()>& stopped) {
  const File in = temporary_file(what);
  const File out = temporary_file(what);
  if (std::fwrite(input.data(), 1, input.size(), in.get()) != input.size() ||
      std::fflush(in.get()) != 0 || std::fseek(in.get(), 0, SEEK_SET) != 0) {
    fail(what, "cannot write a temporary file");
  }
  std::vector<std::string> copies{program};
  copies.insert(copies.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  argv.reserve(copies.size() + 1);
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);

  const pid_t child = fork();
  if (child < 0) fail(what, "cannot start a process");
  if (child == 0) {
    // Only functions that are safe after fork() in a program with threads. The process ends with
    // its caller, because its result would be unused.
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (dup2(fileno(in.get()), STDIN_FILENO) >= 0 && dup2(fileno(out.get()), STDOUT_FILENO) >= 0) {
      execvp(argv.front(), argv.data());
    }
    _exit(127);
  }
  int status = 0;
  rusage usage{};
  bool killed = false;
  for (pid_t ended = 0; ended != child;) {
    ended = wait4(child, &status, stopped ? WNOHANG : 0, &usage);
    if (ended < 0 && errno != EINTR) fail(what, "cannot wait for its process");
    if (ended != 0) continue;
    if (!killed && stopped()) {
      kill(child, SIGKILL);
      killed = true;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
  if (killed) throw Error(ErrorCode::kInterrupted, "interrupted");
  require_success(status, what);
  return {read_all(out.get()), static_cast<size_t>(usage.ru_maxrss) * 1024};
}

ChildResult run_again(std::span<const std::string> arguments, std::string_view input,
                      std::string_view what, const std::function<bool()>& stopped) {
  return run_program("/proc/self/exe", arguments, input, what, stopped);
}

}  // namespace restkv::bench
