#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

namespace restkv::testing {

/// `restkv` at a terminal of its own, as a person would use it: a pseudo terminal is its standard
/// input, output and error, and Ctrl-C typed there is a signal.
class Terminal {
 public:
  explicit Terminal(std::vector<std::string> arguments);
  /// Another program, which $PATH has.
  Terminal(const std::string& program, std::vector<std::string> arguments);
  /// Ends the process if it still runs.
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void type(std::string_view keys) const;
  /// Waits until `text` has appeared behind what was waited for before; returns what came up to
  /// and with it. Fails the test after two minutes or when the process has ended.
  std::string wait_for(std::string_view text);
  /// Waits for the process to end: its exit code, or -1 if a signal ended it.
  int wait();

 private:
  /// Takes in what is there, waiting for it a little; false when there will be no more.
  bool read_some();

  int fd_ = -1;
  pid_t pid_ = 0;
  std::string shown_;  ///< What was not waited for yet.
};

}  // namespace restkv::testing
