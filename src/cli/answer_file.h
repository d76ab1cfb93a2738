#pragma once

#include <set>
#include <string>

#include "base/json.h"
#include "base/line_file.h"

namespace restkv::cli {

/// Answers as JSON Lines, which a later start with the same settings goes on with.
class AnswerFile {
 public:
  /// `settings`: what the answers depend on, which every line repeats in short. Throws `Error`:
  /// kInvalidArgument if the file holds answers made with other settings, kInput naming a line that
  /// is no answer, and as `LineFile` does.
  AnswerFile(const std::string& path, const std::string& settings);

  /// Ids of the questions whose answers are there.
  [[nodiscard]] const std::set<std::string>& done() const { return done_; }
  /// Adds an object with the field `id`. Returns when it is on the disk. Throws as
  /// `LineFile::append` does.
  void append(const Json& answer);

 private:
  LineFile file_;
  std::string run_;
  std::set<std::string> done_;
};

}  // namespace restkv::cli
