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
  /// Control tokens in messages are parsed instead of encoded as text.
  bool parse_special = false;
  size_t max_prompt = 0;  ///< Longer prompts lose their middle; 0: only the context limits them.
  size_t context = 0;     ///< The model's context in tokens, answer included.
  /// Begin-of-text before the context of choices, which has no special tokens otherwise.
  bool choices_with_bos = false;
};

/// An encoded prompt.
struct PromptTokens {
  std::vector<int32_t> tokens;
  size_t cut_from = 0;  ///< Number of tokens before the middle was cut out; 0: not cut.
  /// Number of leading tokens before the question, without a token that belongs to both; 0: it is
  /// not known where that begins.
  size_t context = 0;
};

/// Encodes a sample's prompt: its middle is cut out if it is too long, then come the chat template
/// and the answer prefix. Without a chat template, control tokens in the text are parsed, as in the
/// benchmarks' own code. Throws `Error`: kUnsupported if `chat` is set and the model has no
/// template, kInvalidArgument if nothing is left of the prompt.
PromptTokens prompt_tokens(const Tokenizer& tokenizer, const Sample& sample,
                           const PromptOptions& options);

/// Number of tokens that the chat template adds to a prompt; 0 without `chat`.
size_t tokens_around(const Tokenizer& tokenizer, const PromptOptions& options);

/// The text without its middle: the first and the last floor(`tokens` / 2) tokens, decoded
/// separately and joined. Encoding it again may give a few tokens more or less. Control tokens are
/// dropped unless they are rendered.
std::string without_middle(const Tokenizer& tokenizer, const std::vector<int32_t>& text,
                           size_t tokens, bool render_special = false);

/// A prompt as a user's message in the model's chat template.
ChatText in_chat(const Tokenizer& tokenizer, const std::string& prompt,
                 const PromptOptions& options);

/// The prompt limit of ReST-KV's published code for a model, by the name of its file; 0: unknown.
size_t published_prompt_limit(std::string_view model_path);

}  // namespace restkv::eval
