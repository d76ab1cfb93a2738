#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>

namespace restkv::cli {

/// Lines from standard input: with editing and history at a terminal, plain ones otherwise.
class LineReader {
 public:
  LineReader();
  ~LineReader();

  /// Whether a person types the lines at a terminal.
  [[nodiscard]] bool at_terminal() const { return editor_ != nullptr; }
  /// The next line without its end; nothing at the end of the input. At a terminal Ctrl-C empties
  /// the line and Ctrl-D ends the input. Ctrl-C while the line is answered shows as `interrupted`;
  /// at a terminal it never ends the program (`hold_interrupts`), otherwise the second does, and so
  /// does one while the line is waited for.
  std::optional<std::string> next();
  [[nodiscard]] size_t number() const { return number_; }  ///< Of that line, from 1.

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;  // null: no terminal
  size_t number_ = 0;
};

}  // namespace restkv::cli
