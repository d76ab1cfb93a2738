#pragma once

#include <cstddef>
#include <istream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>

namespace restkv::cli {

/// Lines from standard input: with editing and history at a terminal, plain ones otherwise. Input
/// that begins with the byte order mark of UTF-16 or UTF-32 is converted as a whole.
class LineReader {
 public:
  LineReader();
  ~LineReader();

  /// Whether a person types the lines at a terminal.
  [[nodiscard]] bool at_terminal() const { return editor_ != nullptr; }
  /// The next line without its end; nothing at the end of the input. At a terminal `prompt` invites
  /// to type it, Ctrl-C empties the line and Ctrl-D ends the input; lines that are pasted together
  /// come as one with line feeds in it, and show as "[pasted 5 lines]" while the line is edited.
  /// Ctrl-C while the line is answered shows as `interrupted`; at a terminal it never ends the
  /// program (`hold_interrupts`), otherwise the second does, and so does one while the line is
  /// waited for.
  std::optional<std::string> next(const char* prompt = "> ");
  /// Gives the terminal back to how it was, for another program; `next` takes it again.
  void release_terminal();
  [[nodiscard]] size_t number() const { return number_; }  ///< Of that line, from 1.

 private:
  struct Editor;

  std::istream& input();
  /// Reads a line with its end; false at the end of the input. Throws `Error` (kInput) if it is
  /// longer than anybody's message: /dev/zero has no line's end.
  bool read_line(std::istream& from, std::string& line) const;
  /// Reads all of standard input: the bytes of its line ends are no lines' ends in UTF-16 and
  /// UTF-32. Throws `Error` (kInput) if it is neither.
  void convert_input(std::string first_line);

  std::unique_ptr<Editor> editor_;               // null: no terminal
  std::optional<std::istringstream> converted_;  // what `convert_input` has read
  size_t number_ = 0;
};

}  // namespace restkv::cli
