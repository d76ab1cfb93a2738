#pragma once

#include <CLI/CLI.hpp>
#include <vector>

#include "restkv/sampler.h"

namespace restkv::cli {

/// `--temp`, `--top-k`, ...: how the next token is picked.
class SamplingFlags {
 public:
  explicit SamplingFlags(SamplingOptions defaults = {}) : options_(defaults) {}
  void declare(CLI::App& app);
  /// Says on standard error which of the options that were given have no effect beside the others.
  /// Throws `Error` (kInvalidArgument) as `validate` does.
  [[nodiscard]] SamplingOptions resolve() const;

 private:
  SamplingOptions options_;
  std::vector<const CLI::Option*> of_random_choice_;  ///< Nothing is random at temperature 0.
  std::vector<const CLI::Option*> of_penalties_;
};

}  // namespace restkv::cli
