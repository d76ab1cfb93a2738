#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "restkv/tokenizer.h"

namespace restkv::eval {

/// A choice cut into what the model reads first and what it is asked for.
struct ChoiceTokens {
  std::vector<int32_t> context;
  std::vector<int32_t> continuation;
};

/// The tokens of a context and of a continuation, as lm-evaluation-harness cuts them: white space
/// at the end of the context belongs to the continuation; both are encoded as one text, and what
/// comes after as many tokens as the context alone has is the continuation. The context is the same
/// for all continuations. The text of special tokens becomes those tokens, but none are added; an
/// empty context becomes the begin-of-text token, or the end-of-text token of models that have no
/// other. Throws `Error` (kInput) if the continuation has no token of its own.
ChoiceTokens split_choice(const Tokenizer& tokenizer, std::string_view context,
                          std::string_view continuation);

}  // namespace restkv::eval
