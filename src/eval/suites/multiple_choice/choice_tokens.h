#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "restkv/tokenizer.h"

namespace restkv::eval {

/// A choice split into context and continuation.
struct ChoiceTokens {
  std::vector<int32_t> context;
  std::vector<int32_t> continuation;
};

/// Tokens of a context and of a continuation, split as in lm-evaluation-harness. White space at the
/// end of the context belongs to the continuation. Both are encoded as one text; the tokens after
/// the number of tokens of the context alone are the continuation. The context is the same for all
/// continuations. Special tokens in the text are parsed, but none are added. An empty context
/// becomes the begin-of-text token, or the end-of-text token of models without one. Throws `Error`
/// (kInput) if the continuation has no token.
ChoiceTokens split_choice(const Tokenizer& tokenizer, std::string_view context,
                          std::string_view continuation);

}  // namespace restkv::eval
