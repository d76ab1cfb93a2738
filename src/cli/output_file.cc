#include "cli/output_file.h"

#include <fmt/format.h>

#include "base/file.h"
#include "cli/process.h"
#include "restkv/error.h"

namespace restkv::cli {

void write_output(const std::string& path, std::string_view content) {
  if (path == kStandardOutput) {
    print_answer(content);  // byte for byte, but at a terminal
  } else {
    write_file_atomically(path, content);
  }
}

void refuse_standard_output(std::string_view option, const std::string& path) {
  if (path != kStandardOutput && !is_standard_output(path)) return;
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("{0} cannot write to standard output; give it a name (./- for one that is "
                  "called so)",
                  option));
}

}  // namespace restkv::cli
