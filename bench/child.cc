#include "child.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "restkv/error.h"

namespace restkv::bench {
namespace {

using File = std::unique_ptr<std::FILE, int (*)(std::FILE*)>;

[[noreturn]] void fail(std::string_view what, const char* step) {
  throw Error(ErrorCode::kIo, fmt::format("{}: {}: {}", what, step, std::strerror(errno)));
}

/// Files instead of pipes: neither side ever waits for the other or writes to one that has ended.
File temporary_file(std::string_view what) {
  File file(std::tmpfile(), std::fclose);
  if (file == nullptr) fail(what, "cannot create a temporary file");
  return file;
}

std::string read_all(std::FILE* file) {
  std::string text;
  std::rewind(file);
  std::array<char, 4096> block;
  while (const size_t size = std::fread(block.data(), 1, block.size(), file)) {
    text.append(block.data(), size);
  }
  return text;
}

void require_success(int status, std::string_view what) {
  if (WIFSIGNALED(status)) {
    const char* hint = WTERMSIG(status) == SIGKILL ? "; probably too little memory, use a smaller "
                                                     "model or shorter --lengths"
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

ChildResult run_again(std::span<const std::string> arguments, std::string_view input,
                      std::string_view what) {
  const File in = temporary_file(what);
  const File out = temporary_file(what);
  if (std::fwrite(input.data(), 1, input.size(), in.get()) != input.size() ||
      std::fflush(in.get()) != 0 || std::fseek(in.get(), 0, SEEK_SET) != 0) {
    fail(what, "cannot write a temporary file");
  }
  std::string program = "side_by_side";
  std::vector<std::string> copies(arguments.begin(), arguments.end());
  std::vector<char*> argv{program.data()};
  for (std::string& argument : copies) argv.push_back(argument.data());
  argv.push_back(nullptr);

  const pid_t child = fork();
  if (child < 0) fail(what, "cannot start a process");
  if (child == 0) {
    // Only functions that are safe after fork() in a program with threads.
    if (dup2(fileno(in.get()), STDIN_FILENO) >= 0 && dup2(fileno(out.get()), STDOUT_FILENO) >= 0) {
      execv("/proc/self/exe", argv.data());
    }
    _exit(127);
  }
  int status = 0;
  rusage usage{};
  while (wait4(child, &status, 0, &usage) < 0) {
    if (errno != EINTR) fail(what, "cannot wait for its process");
  }
  require_success(status, what);
  return {read_all(out.get()), static_cast<size_t>(usage.ru_maxrss) * 1024};
}

}  // namespace restkv::bench
