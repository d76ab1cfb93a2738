#pragma once

#include <string>
#include <vector>

#include "cli/argument_parser.h"
#include "cli/folder_files.h"

namespace restkv::cli {

/// The texts of files as `PromptSources::read` has them. "-" is standard input. Throws `Error` if
/// one cannot be read or is empty.
std::string read_documents(const std::vector<InputFile>& files);

/// `-p` and `-f`: where a prompt comes from.
class PromptSources {
 public:
  void declare(ArgumentParser& parser);
  /// Replaces folders by their files, before anything is read. Throws as `FolderFlags::files`.
  void find_files() { found_ = folders_.files(files_); }
  /// The texts of all sources, an empty line between them: files in the order in which they were
  /// given (those of folders behind a line with their names), what was piped into standard input,
  /// and the text of `-p`. The question stands last, since the last tokens of a prompt decide what
  /// is kept. Files are what `document::read_document` makes of them, and a notice says where that
  /// is not the file itself. A single text stays as it is, byte for byte. Throws `Error` if there
  /// is none, if one cannot be read, and if one is empty.
  [[nodiscard]] std::string read() const;
  /// Those of `-f`.
  [[nodiscard]] const std::vector<InputFile>& files() const { return found_; }

 private:
  std::string text_;
  std::vector<std::string> files_;
  FolderFlags folders_;
  std::vector<InputFile> found_;
};

}  // namespace restkv::cli
