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
  /// the line and Ctrl-D ends the input. Calls `release_interrupts`, at a terminal once Ctrl-C is a
  /// character like others: one that comes a moment too late for an answer must not end the
  /// program.
  std::optional<std::string> next();
  [[nodiscard]] size_t number() const { return number_; }  ///< Of that line, from 1.

 private:
  struct Editor;
  std::unique_ptr<Editor> editor_;  // null: no terminal
  size_t number_ = 0;
};

}  // namespace restkv::cli
