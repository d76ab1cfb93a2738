#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <string>

#include "restkv/compress.h"

namespace restkv::cli {

/// `--method` and one flag per compression option (`--drift-scale` for `drift_scale`). What is not
/// given keeps the default of the method.
class CompressionFlags {
 public:
  void declare(CLI::App& app);
  /// The method's defaults with the given flags applied. Throws `Error` (kInvalidArgument) also for
  /// a flag that the method would ignore.
  [[nodiscard]] CompressionOptions resolve() const;

 private:
  std::string method_ = "restkv";
  std::map<std::string, std::string> values_;  // option name -> text from the command line
};

}  // namespace restkv::cli
