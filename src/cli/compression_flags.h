#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cli/argument_parser.h"
#include "restkv/compress.h"

namespace restkv::cli {

/// `--method`, `--preset` and one flag per compression option (`--drift-scale` for `drift_scale`).
/// What is not given has the value of the preset.
class CompressionFlags {
 public:
  void declare(ArgumentParser& parser);
  /// The method's defaults with the given flags applied. Throws `Error` (kInvalidArgument) also for
  /// a flag that the method would ignore.
  [[nodiscard]] CompressionOptions resolve() const;
  /// `--budget`, if it was given.
  [[nodiscard]] std::optional<int> budget() const;
  /// Flags that name a file to be read, and the files.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> files() const;

 private:
  std::string method_ = "restkv";
  std::map<std::string, std::string> values_;  // option name -> text from the command line
};

/// What `parse_compression` makes of "snapkv:kernel=21", saying its notices. Throws as that does,
/// also for a budget.
CompressionOptions parse_method(std::string_view text);

/// Refuses `--budget` where all methods are `full`, which has none. Throws `Error`
/// (kInvalidArgument).
void require_use_for_budget(const std::vector<std::string>& methods);

}  // namespace restkv::cli
