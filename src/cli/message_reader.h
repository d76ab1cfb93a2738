#pragma once

#include <optional>
#include <string>

#include "cli/line_reader.h"

namespace restkv::cli {

struct Message {
  std::string text;   ///< UTF-8.
  std::string fault;  ///< Why it cannot be used; empty: it can.
};

/// Messages of one line or several:
///
/// - a line that begins with """ and all up to the line that ends with """, without the quotes;
/// - a line that ends with a backslash, and the next one;
/// - lines that are pasted together at a terminal.
///
/// A line that begins with a slash is a command and stands alone.
class MessageReader {
 public:
  /// The next message; nothing at the end of the input. Throws as `LineReader::next`.
  std::optional<Message> next();

  [[nodiscard]] bool at_terminal() const { return lines_.at_terminal(); }
  void release_terminal() { lines_.release_terminal(); }

 private:
  /// Adds the next line to a message; false at the end of the input.
  bool add_line(Message& message, const char* prompt);

  LineReader lines_;
};

}  // namespace restkv::cli
