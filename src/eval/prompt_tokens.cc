#include "eval/prompt_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <span>

#include "base/ascii.h"
#include "base/text.h"
#include "restkv/error.h"

namespace restkv::eval {
namespace {

/// Number of tokens by which a cut text may grow when it is encoded again.
constexpr size_t kSlack = 32;

/// Number of tokens that both begin with.
size_t common_beginning(std::span<const int32_t> a, std::span<const int32_t> b) {
  return static_cast<size_t>(std::ranges::mismatch(a, b).in1 - a.begin());
}

}  // namespace

ChatText in_chat(const Tokenizer& tokenizer, const std::string& prompt,
                 const PromptOptions& options) {
  const ChatMessage message{"user", prompt};
  return tokenizer.format_chat({&message, 1}, options.parse_special);
}

size_t tokens_around(const Tokenizer& tokenizer, const PromptOptions& options) {
  return options.chat ? tokenizer.encode(in_chat(tokenizer, "", options), true).size() : 0;
}

std::string without_middle(const Tokenizer& tokenizer, const std::vector<int32_t>& text,
                           size_t tokens, bool render_special) {
  const std::span<const int32_t> all(text);
  const size_t half = std::min(tokens, text.size()) / 2;
  return tokenizer.decode(all.first(half), render_special) +
         tokenizer.decode(all.last(half), render_special);
}

PromptTokens prompt_tokens(const Tokenizer& tokenizer, const Sample& sample,
                           const PromptOptions& options) {
  if (!sample.tokens.empty()) return {.tokens = sample.tokens, .context = sample.context_end};
  const bool chat = options.chat && !sample.always_raw;
  const auto encode = [&](std::string_view text) {
    return tokenizer.encode(text, sample.add_special, !chat || options.parse_special);
  };
  const auto whole = [&](const std::string& prompt) {  // in the chat template
    ChatText text = in_chat(tokenizer, prompt, options);
    text.text += sample.answer_prefix;
    return tokenizer.encode(text, sample.add_special);
  };

  // The limit applies to the prompt without its chat template, as in LongBench's own code, and
  // otherwise to all that the model reads.
  std::string text = chat ? sample.prompt : sample.prompt + sample.answer_prefix;
  const std::string question =
      sample.context_end > 0 ? std::string(trimmed(text.substr(sample.context_end))) : "";
  const std::vector<int32_t> counted = encode(text);
  const auto shortened = [&](size_t limit) {
    text = without_middle(tokenizer, counted, limit, !chat && sample.keep_control_tokens);
    return chat ? whole(text) : encode(text);
  };
  PromptTokens result{.tokens = chat ? whole(text) : counted};
  if (options.max_prompt > 0 && counted.size() > options.max_prompt) {
    result = {.tokens = shortened(options.max_prompt), .cut_from = counted.size()};
  }
  const size_t needed = result.tokens.size() + sample.max_new_tokens;
  if (options.context > 0 && needed > options.context && sample.mode == SampleMode::kGenerate) {
    const size_t around = chat ? whole("").size() : 0;  // with the answer prefix
    const size_t reserved = sample.max_new_tokens + around + kSlack;
    if (reserved >= options.context) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("an answer of {} tokens leaves no room for a prompt in a context of "
                              "{}; use a model with a longer context",
                              sample.max_new_tokens, options.context));
    }
    result = {.tokens = shortened(options.context - reserved), .cut_from = counted.size()};
  }
  if (result.tokens.empty()) throw Error(ErrorCode::kInvalidArgument, "the prompt has no tokens");
  if (question.empty()) return result;
  // Within the template, which may trim the text.
  const ChatText around = chat ? in_chat(tokenizer, text, options) : ChatText{text, {}};
  const size_t begin = around.text.rfind(question);
  if (begin == std::string::npos) return result;  // a cut has taken a part of it
  result.context = common_beginning(
      result.tokens, chat ? tokenizer.encode(around.part(0, begin), sample.add_special)
                          : encode(std::string_view(text).substr(0, begin)));
  return result;
}

size_t published_prompt_limit(std::string_view model_path) {
  const std::string path = lower_case(model_path);
  size_t limit = 0;  // of the last that fits; no file is named after two of these families
  const auto& limits = benchmark_prompts().at("limits").at("restkv_model_max_prompt_tokens");
  for (const auto& [name, tokens] : limits.items()) {
    if (path.find(name) != std::string::npos) limit = tokens.get<size_t>();
  }
  return limit;
}

}  // namespace restkv::eval
