#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cli/argument_parser.h"
#include "generate/grammar.h"
#include "restkv/generate.h"
#include "restkv/tokenizer.h"

namespace restkv::cli {

/// `-n`, `--stop`, `--json-schema` and `--grammar`: where an answer ends, and what it may be.
class AnswerFlags {
 public:
  /// `may_only_read`: an answer of no tokens has a use.
  void declare(ArgumentParser& parser, bool may_only_read);
  /// Reads the schema or the grammar. Throws `Error`: kInvalidArgument (both are given, or the
  /// grammar is none), kInput (a file cannot be read, the schema is none).
  void read();
  /// Most tokens of an answer if so many fit behind its prompt; 0: none is wanted.
  [[nodiscard]] size_t max_tokens(size_t room) const;
  /// Whether `-n` has no limit but the model's context.
  [[nodiscard]] bool unlimited() const { return max_tokens_ < 0; }
  [[nodiscard]] int limit() const { return max_tokens_; }
  /// Options that name files, and the files.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> files() const;
  /// For one answer of up to `most` tokens: `constraint` holds what the options refer to.
  [[nodiscard]] GenerationOptions options(const Tokenizer& tokenizer, size_t most,
                                          std::unique_ptr<TokenConstraint>& constraint) const;

 private:
  int max_tokens_ = 512;
  std::vector<std::string> stops_;
  std::string schema_, grammar_;
  std::optional<GrammarOptions> constraint_;
};

}  // namespace restkv::cli
