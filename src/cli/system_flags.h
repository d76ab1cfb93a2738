#pragma once

#include <string>

#include "cli/argument_parser.h"
#include "restkv/tokenizer.h"

namespace restkv::cli {

/// `--system` and `--no-system`: what is said to the model before everything else.
class SystemFlags {
 public:
  void declare(ArgumentParser& parser);
  [[nodiscard]] bool given() const { return !text_.empty() || none_; }
  /// As it stands on the command line; for messages.
  [[nodiscard]] const char* name() const { return text_.empty() ? "--no-system" : "--system"; }
  /// Throws `Error` (kInvalidArgument) if one was given: a loaded conversation has begun already.
  void refuse_with_loaded() const;
  /// The text that was given, or else what the file's chat template says itself. Empty: nothing is
  /// said. Throws `Error`: kInvalidArgument (both are given, or the model has no template for it),
  /// kInput (the text is none).
  [[nodiscard]] std::string message(const Tokenizer& tokenizer) const;

 private:
  std::string text_;
  bool none_ = false;
};

}  // namespace restkv::cli
