#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace restkv::cli {

/// The files that the options of a command name, told before its work begins: what cannot be
/// written, or must not be, is refused then. An empty path stands for an option that was not given.
class CommandFiles {
 public:
  void reads(std::string_view option, const std::string& path);
  /// Throws `Error`: kInvalidArgument if `path` is a file that was told before, or a GGUF model,
  /// which would be lost, or standard output ("-") a second time; kIo if it cannot be written.
  /// Changes nothing.
  void writes(std::string_view option, const std::string& path);

 private:
  std::vector<std::pair<std::string, std::string>> told_;  ///< Options and their paths.
  std::string to_standard_output_;  ///< The option that writes there, if any.
};

}  // namespace restkv::cli
