#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "eval/suite.h"
#include "restkv/tokenizer.h"

namespace restkv::eval {

struct PromptOptions {
  bool chat = false;  ///< Put the model's chat template around prompts that allow it.
  /// Control tokens in what the template is put around are control tokens, not text.
  bool parse_special = false;
  size_t max_prompt = 0;  ///< Longer prompts lose their middle; 0: only what the context demands.
  size_t context = 0;     ///< Tokens that the model holds, those of the answer included.
  /// Begin-of-text before the context of choices, which has no special tokens otherwise.
  bool choices_with_bos = false;
};

/// A prompt as the model reads it.
struct PromptTokens {
  std::vector<int32_t> tokens;
  size_t cut_from = 0;  ///< Tokens before the middle was cut out; 0: nothing was.
};

/// The tokens of a sample's prompt: its middle cut out where it is too long, then the chat
/// template, then the answer prefix. Outside of a chat template the text of control tokens becomes
/// those tokens, as in the benchmarks' own code. Throws `Error`: kUnsupported if a chat template is
/// wanted and the model has none, kInvalidArgument if nothing is left of the prompt.
PromptTokens prompt_tokens(const Tokenizer& tokenizer, const Sample& sample,
                           const PromptOptions& options);

/// Tokens that a chat template adds to a prompt; 0 if none is wanted.
size_t tokens_around(const Tokenizer& tokenizer, const PromptOptions& options);

/// The text without its middle: the first and the last floor(`tokens` / 2) tokens, decoded apart
/// and put together. Encoded again it may have a few tokens more or less. Control tokens are left
/// out, unless they are to be rendered.
std::string without_middle(const Tokenizer& tokenizer, const std::vector<int32_t>& text,
                           size_t tokens, bool render_special = false);

/// A prompt as a user's message in the model's chat template.
ChatText in_chat(const Tokenizer& tokenizer, const std::string& prompt,
                 const PromptOptions& options);

/// The prompt limit that ReST-KV's published code has for a model, by the name of its file; 0: none
/// is known.
size_t published_prompt_limit(std::string_view model_path);

}  // namespace restkv::eval
