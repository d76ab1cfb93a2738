#pragma once

#include <string>
#include <vector>

#include "cli/argument_parser.h"

namespace restkv::cli {

/// A file to be read.
struct InputFile {
  std::string path;
  bool from_folder = false;  ///< Its name tells the model which of many files it is.
};

/// `--glob`: which files of a folder are meant.
class FolderFlags {
 public:
  void declare(ArgumentParser& parser);
  /// The paths, and in place of each folder its files whose names match a pattern, sorted, those of
  /// its folders as well. Patterns are those of shells; one with a slash is for the path below the
  /// folder. Hidden files and folders are left out. Throws `Error`: kInvalidArgument (a folder
  /// without patterns, patterns without a folder), kInput (a folder without such files, or one
  /// that cannot be read).
  [[nodiscard]] std::vector<InputFile> files(const std::vector<std::string>& paths) const;

 private:
  std::vector<std::string> patterns_;
};

}  // namespace restkv::cli
