#pragma once

#include <string>
#include <string_view>

#include "base/descriptor.h"

namespace restkv {

/// A file of lines that one process at a time appends to, and that a later one goes on with.
class LineFile {
 public:
  /// Opens the file or makes a new one, and locks it until the process ends in any way. Changes
  /// nothing. Throws `Error` naming the path: kIo if it cannot be opened, kInvalidArgument if
  /// another process has it.
  explicit LineFile(std::string path);
  /// Removes a new file into which nothing was written.
  ~LineFile();
  LineFile(const LineFile&) = delete;
  LineFile& operator=(const LineFile&) = delete;

  /// Whole lines, as they were when the file was opened.
  [[nodiscard]] std::string_view lines() const;
  /// What follows them: the beginning of a line whose writer was stopped.
  [[nodiscard]] std::string_view torn_line() const;
  /// Removes the torn line. Throws `Error` (kIo).
  void remove_torn_line();

  /// Returns when the line, to which a line feed is added, is on the disk. Throws `Error` (kIo)
  /// naming the reason; the file then ends as before.
  void append(std::string_view line);

 private:
  std::string path_;
  bool is_new_ = false;
  Descriptor file_;
  std::string content_;
};

}  // namespace restkv
