#pragma once

#include <string>
#include <vector>

#include "cli/argument_parser.h"

namespace restkv::cli {

/// The texts of files as `PromptSources::read` has them. "-" is standard input. Throws `Error` if
/// one cannot be read or is empty.
std::string read_documents(const std::vector<std::string>& files);

/// `-p` and `-f`: where a prompt comes from.
class PromptSources {
 public:
  void declare(ArgumentParser& parser);
  /// The texts of all sources, an empty line between them: files in the order in which they were
  /// given, what was piped into standard input, and the text of `-p`. The question stands last,
  /// since the last tokens of a prompt decide what is kept. Files are what
  /// `document::read_document` makes of them, and a notice says where that is not the file itself.
  /// A single text stays as it is, byte for byte. Throws `Error` if there is none, if one cannot be
  /// read, and if one is empty.
  [[nodiscard]] std::string read() const;
  /// Those of `-f`.
  [[nodiscard]] const std::vector<std::string>& files() const { return files_; }

 private:
  std::string text_;
  std::vector<std::string> files_;
};

}  // namespace restkv::cli
