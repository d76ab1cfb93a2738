#pragma once

#include <vector>

#include "cli/argument_parser.h"
#include "restkv/sampler.h"

namespace restkv::cli {

/// `--temp`, `--top-k`, ...: how the next token is picked.
class SamplingFlags {
 public:
  explicit SamplingFlags(SamplingOptions defaults = {}) : options_(defaults) {}
  void declare(ArgumentParser& parser);
  /// Says on standard error which of the options that were given have no effect beside the others.
  /// Throws `Error` (kInvalidArgument) as `validate` does.
  [[nodiscard]] SamplingOptions resolve() const;

 private:
  SamplingOptions options_;
  std::vector<const Option*> of_random_choice_;  ///< Nothing is random at temperature 0.
  std::vector<const Option*> of_penalties_;
};

}  // namespace restkv::cli
