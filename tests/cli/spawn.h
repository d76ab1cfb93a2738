#pragma once

#include <csignal>
#include <functional>
#include <string>
#include <vector>

namespace restkv::testing {

/// What a finished (or still running) process has said so far.
struct Outcome {
  int exit_code = -1;  ///< -1 if a signal ended the process.
  int signal = 0;      ///< That signal.
  std::string out;     ///< Standard output.
  std::string err;     ///< Standard error.
};

/// How to start the `restkv` that this build made.
struct Spawn {
  std::vector<std::string> arguments;
  /// A program, found by its name, and its arguments, to which the path of `restkv` and its own are
  /// added: {"mpirun", "-n", "2"}.
  std::vector<std::string> through = {};
  /// "NAME=value" each. Settings of restkv and of hubs that these tests were started with are left
  /// out.
  std::vector<std::string> environment = {};
  std::string input = {};        ///< Fed to standard input through a pipe.
  bool keep_input_open = false;  ///< Do not close that pipe after `input`.
  std::string stdout_path =
      {};  ///< Standard output goes to this file; empty: a pipe, kept in `out`.
  bool nonblocking_stdout = false;  ///< That pipe is small and does not wait for its reader.
  bool reader_gone = false;  ///< Nobody reads that pipe: its other end is closed from the start.
  /// Sends `interrupt_with`, once, as soon as this is true of what has been said so far.
  std::function<bool(const Outcome&)> interrupt_when = {};
  int interrupt_with = SIGINT;  ///< Ctrl-C; or SIGKILL, which no process can answer.
};

/// Where that `restkv` is.
std::string restkv_program();

/// Runs to the end. A process that takes longer than two minutes is killed and fails the test.
Outcome restkv_process(const Spawn& spawn);

/// The same with arguments alone.
Outcome restkv_process(const std::vector<std::string>& arguments);

}  // namespace restkv::testing
