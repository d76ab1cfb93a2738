#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "restkv/generate.h"
#include "restkv/tokenizer.h"

namespace restkv {

/// A grammar, and when it begins to count.
struct GrammarOptions {
  std::string gbnf;
  /// Nothing is forbidden until one of the triggers has come.
  bool lazy = false;
  /// Regular expressions (ECMAScript). What matches their first group begins the grammar.
  std::vector<std::string> trigger_patterns = {};
  std::vector<int32_t> trigger_tokens = {};
  /// Tokens of the prompt that the grammar begins with.
  std::vector<int32_t> read = {};
};

/// Lets through what follows the grammar (libllama's). `tokenizer` must outlive it. Throws `Error`
/// (kInvalidArgument) as `check_gbnf` does.
std::unique_ptr<TokenConstraint> make_grammar(const Tokenizer& tokenizer,
                                              const GrammarOptions& options);

}  // namespace restkv
