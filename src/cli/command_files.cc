#include "cli/command_files.h"

#include <fmt/format.h>

#include "base/file.h"
#include "cli/output_file.h"
#include "restkv/error.h"

namespace restkv::cli {

void CommandFiles::reads(std::string_view option, const std::string& path) {
  if (!path.empty() && path != kStandardInput) told_.emplace_back(option, path);
}

void CommandFiles::writes(std::string_view option, const std::string& path) {
  if (path.empty()) return;
  if (path == kStandardOutput) {
    if (!to_standard_output_.empty()) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("{} and {} cannot both be -, which is standard output",
                              to_standard_output_, option));
    }
    to_standard_output_ = option;
    return;
  }
  const auto refuse = [&](const std::string& reason) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} {}: {}; choose another name", option, path, reason));
  };
  for (const auto& [other, its_path] : told_) {
    if (same_file(path, its_path)) refuse(fmt::format("is the file of {}, too", other));
  }
  if (first_bytes(path, 4) == "GGUF") refuse("is a GGUF model, which would be lost");
  require_writable(path);
  told_.emplace_back(option, path);
}

}  // namespace restkv::cli
