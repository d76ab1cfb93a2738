#include "model/vocabulary.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstring>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "restkv/error.h"

namespace restkv {
namespace {

constexpr const char* kModelKey = "tokenizer.ggml.model";
constexpr const char* kTokensKey = "tokenizer.ggml.tokens";
constexpr const char* kPreKey = "tokenizer.ggml.pre";
constexpr const char* kTypesKey = "tokenizer.ggml.token_type";
/// Tokens that begin texts and end answers. If one is out of range, libllama uses the number that
/// it has in other vocabularies.
constexpr std::array kSpecialKeys{"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id",
                                  "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
constexpr int32_t kByteType = 6;  // of `token_type`: the token stands for one byte
constexpr size_t kMaxTokens = size_t{1} << 24U;

/// Pre-tokenizers of vocabularies that are not spelled in GPT-2's letters. With a vocabulary that
/// is, libllama would lose all spaces or abort the process.
constexpr std::array<std::string_view, 4> kForeignPre{"gemma4", "granite-embed-multi-311m",
                                                      "sarvam-moe", "whitespace"};

/// A token of kByteType is written <0x0A>.
bool is_byte_token(std::string_view text) {
  const auto hexadecimal = [](char c) { return std::isxdigit(static_cast<unsigned char>(c)) != 0; };
  return text.size() == 6 && text.starts_with("<0x") && hexadecimal(text[3]) &&
         hexadecimal(text[4]) && text[5] == '>';
}

void check_tokens_differ(const GgufFile& file, const std::vector<std::string_view>& tokens) {
  // libllama cuts a token at its first zero byte and calls an empty one [EMPTY_i].
  std::vector<std::string> names;
  names.reserve(tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string_view text = tokens[i].substr(0, tokens[i].find('\0'));
    names.push_back(text.empty() ? fmt::format("[EMPTY_{}]", i) : std::string(text));
  }
  std::unordered_map<std::string_view, size_t> seen;
  seen.reserve(names.size());
  for (size_t i = 0; i < names.size(); ++i) {
    const auto [first, is_new] = seen.emplace(names[i], i);
    if (!is_new) {
      file.fail(fmt::format("'{}' lists '{:.40}' twice, as tokens {} and {}", kTokensKey, names[i],
                            first->second, i));
    }
  }
}

void check_special_tokens(const GgufFile& file, size_t tokens) {
  for (const char* key : kSpecialKeys) {
    const std::optional<int64_t> token = file.find_integer(key);
    if (!token || (*token >= 0 && static_cast<size_t>(*token) < tokens)) continue;
    file.fail(fmt::format("'{}' is {}, but '{}' has {} tokens", key, *token, kTokensKey, tokens));
  }
}

}  // namespace

void check_vocabulary(const GgufFile& file) {
  // libllama leaks memory if this is no string.
  static_cast<void>(file.string("general.architecture"));
  const std::optional<std::string> model = file.find_string(kModelKey);
  if (!model) file.fail(fmt::format("holds no tokenizer: '{}' is missing", kModelKey));
  if (*model != "llama" && *model != "gpt2") {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: the tokenizer '{:.40}' ('{}') is not supported; known: llama "
                            "(SentencePiece), gpt2 (byte-level BPE)",
                            file.path(), *model, kModelKey));
  }
  const std::optional<std::string> pre = file.find_string(kPreKey);
  if (*model == "gpt2" && pre && std::ranges::find(kForeignPre, *pre) != kForeignPre.end()) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: the pre-tokenizer '{}' ('{}') is not for byte-level BPE ('{}' is "
                            "gpt2)",
                            file.path(), *pre, kPreKey, kModelKey));
  }
  const auto tokens = file.find_strings(kTokensKey);
  if (!tokens) file.fail(fmt::format("holds no tokenizer: '{}' is missing", kTokensKey));
  if (tokens->empty() || tokens->size() > kMaxTokens) {
    file.fail(fmt::format("'{}' has {} tokens; expected 1 to {}", kTokensKey, tokens->size(),
                          kMaxTokens));
  }
  check_tokens_differ(file, *tokens);
  check_special_tokens(file, tokens->size());

  const auto types = file.find_integers(kTypesKey);
  if (!types) return;
  if (types->size() != tokens->size()) {
    file.fail(fmt::format("'{}' has {} elements for {} tokens", kTypesKey, types->size(),
                          tokens->size()));
  }
  for (size_t i = 0; i < types->size(); ++i) {
    if ((*types)[i] == kByteType && !is_byte_token((*tokens)[i])) {
      file.fail(
          fmt::format("'{}' calls token {} a byte, but it is '{:.40}'; expected a form like "
                      "<0x0A>",
                      kTypesKey, i, (*tokens)[i]));
    }
  }
}

}  // namespace restkv
