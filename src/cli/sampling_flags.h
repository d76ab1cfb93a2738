#pragma once

#include <vector>

#include "cli/argument_parser.h"
#include "restkv/sampler.h"

namespace restkv::cli {

/// A small model whose most likely token always wins goes round in circles in longer answers; this
/// keeps it from that.
inline constexpr SamplingOptions kChatSampling{.repeat_penalty = 1.1F};

/// `--temp`, `--top-k`, ...: how the next token is picked.
class SamplingFlags {
 public:
  explicit SamplingFlags(SamplingOptions defaults = {}) : options_(defaults) {}
  void declare(ArgumentParser& parser);
  /// Says on standard error which of the options that were given have no effect beside the others.
  /// Throws `Error` (kInvalidArgument) as `validate` does.
  [[nodiscard]] SamplingOptions resolve() const;
  /// Says what of the options that were given a session from a file cannot go on with: what its
  /// sampler knew.
  void tell_what_snapshots_lack() const;

 private:
  SamplingOptions options_;
  const Option* temperature_ = nullptr;
  std::vector<const Option*> of_random_choice_;  ///< Nothing is random at temperature 0.
  std::vector<const Option*> of_penalties_;
};

}  // namespace restkv::cli
