#include "restkv/tokenizer.h"

#include <fmt/format.h>
#include <llama.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <limits>
#include <new>
#include <optional>
#include <stdexcept>

#include "base/big_stack.h"
#include "base/memory.h"
#include "base/text.h"
#include "model/chat_template.h"
#include "model/control_tokens.h"
#include "model/ggml_log.h"
#include "model/pre_token.h"
#include "model/vocabulary.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Stack per character of a pre-token. libllama's pre-tokenizers recurse once or more per matched
/// character and need 320 bytes each on x86-64; this leaves room for other builds.
#ifdef __SANITIZE_ADDRESS__  // leaves room around every variable
constexpr size_t kStackPerCharacter = 8192;
constexpr size_t kSmallPreToken = 128;
#else
constexpr size_t kStackPerCharacter = 1024;
constexpr size_t kSmallPreToken = 1024;  ///< Fits into the stack of any thread.
#endif
constexpr size_t kMostPreToken = size_t{4} << 20U;

size_t count_spaces(std::string_view text) {
  return static_cast<size_t>(std::ranges::count_if(
      text, [](char c) { return kAsciiSpace.find(c) != std::string_view::npos; }));
}

/// "llama_model_load: error loading model: error loading model vocabulary: REASON
/// llama_model_load_from_file_impl: failed to load model" without the names of functions.
std::string reason_not_to_load(std::string errors) {
  for (const std::string_view before :
       {"error loading model: ", "error loading model vocabulary: "}) {
    const size_t at = errors.find(before);
    if (at != std::string::npos) errors.erase(0, at + before.size());
  }
  errors.resize(std::min(errors.find(" llama_model_load"), errors.size()));
  return errors;
}

}  // namespace

struct Tokenizer::Impl {
  std::string path;
  std::unique_ptr<llama_model, decltype(&llama_model_free)> model{nullptr, llama_model_free};
  const llama_vocab* vocab = nullptr;
  std::optional<ControlTokens> control;
  size_t longest_token = 1;              ///< Bytes of a token's text that are no white space.
  std::array<bool, 256> single_bytes{};  ///< Bytes that are tokens by themselves.
  std::vector<int32_t> end_tokens;

  [[nodiscard]] std::vector<int32_t> tokens(std::string_view text, bool parse_special) const;
  [[nodiscard]] std::vector<int32_t> parsed_tokens(std::string_view text) const;
  [[nodiscard]] std::vector<int32_t> plain_tokens(std::string_view text) const;
  /// Throws `Error` (kInput) if libllama dropped bytes of the text that have no tokens.
  void require_whole(std::string_view text, std::span<const int32_t> tokens) const;
  [[nodiscard]] std::string piece(int32_t token, bool render_special) const;
  void add_begin(std::vector<int32_t>& tokens) const;
};

Tokenizer::Tokenizer(const std::string& path) : impl_(std::make_unique<Impl>()) {
  check_vocabulary(GgufFile(path));
  llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  impl_->path = path;
  impl_->model.reset(llama_model_load_from_file(path.c_str(), params));
  if (impl_->model == nullptr) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: libllama cannot use the tokenizer ('tokenizer.ggml'): {}; convert "
                            "the model anew",
                            path, reason_not_to_load(take_ggml_errors())));
  }
  impl_->vocab = llama_model_get_vocab(impl_->model.get());
  if (llama_vocab_get_add_bos(impl_->vocab) && llama_vocab_bos(impl_->vocab) == LLAMA_TOKEN_NULL) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: 'tokenizer.ggml.add_bos_token' asks for a token that the "
                            "vocabulary does not have ('tokenizer.ggml.bos_token_id')",
                            path));
  }
  impl_->control.emplace(impl_->vocab);
  for (size_t token = 0; token < vocabulary(); ++token) {
    const std::string text = piece(static_cast<int32_t>(token), true);
    if (is_end(static_cast<int32_t>(token))) {
      impl_->end_tokens.push_back(static_cast<int32_t>(token));
    }
    if (text.size() == 1) impl_->single_bytes[static_cast<unsigned char>(text[0])] = true;
    impl_->longest_token = std::max(impl_->longest_token, text.size() - count_spaces(text));
  }
}

Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::Impl::tokens(std::string_view text, bool parse_special) const {
  if (text.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a text of {} bytes is too long; the limit is 2 GiB", text.size()));
  }
  const auto length = static_cast<int32_t>(text.size());
  std::vector<int32_t> tokens(text.size() / 2 + 16);
  const auto encode_into = [&] {
    return llama_tokenize(vocab, text.data(), length, tokens.data(),
                          static_cast<int32_t>(tokens.size()), false, parse_special);
  };
  int32_t count = 0;
  const auto encode_all = [&] {
    count = encode_into();
    if (count < 0 && count != std::numeric_limits<int32_t>::min()) {
      tokens.resize(static_cast<size_t>(-count));
      count = encode_into();
    }
  };
  try {
    // (SentencePiece has no pre-tokenizer.)
    const bool recursive = llama_vocab_type(vocab) == LLAMA_VOCAB_TYPE_BPE;
    const size_t longest = recursive ? longest_pre_token(text) : 0;
    const size_t stack = kStackPerCharacter * longest;
    if (longest > kMostPreToken || (longest > kSmallPreToken && stack > available_memory())) {
      throw Error(ErrorCode::kInput,
                  fmt::format("the text has {} characters on end without a break, too many for "
                              "the memory that libllama's tokenizer may need for them; break them "
                              "into lines",
                              longest));
    }
    if (longest <= kSmallPreToken) {
      encode_all();
    } else {
      run_on_big_stack(stack, encode_all);
    }
  } catch (const Error&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::out_of_range&) {
    throw Error(
        ErrorCode::kInput,
        fmt::format("{}: 'tokenizer.ggml.tokens' has no tokens for some bytes of the text", path));
  } catch (const std::exception& e) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: libllama cannot tokenize the text: {}", path, e.what()));
  }
  if (count < 0) throw Error(ErrorCode::kInput, fmt::format("{}: the tokenizer failed", path));
  tokens.resize(static_cast<size_t>(count));
  require_whole(text, tokens);
  return tokens;
}

void Tokenizer::Impl::require_whole(std::string_view text, std::span<const int32_t> tokens) const {
  const auto is_single = [&](char c) { return single_bytes[static_cast<unsigned char>(c)]; };
  if (llama_vocab_type(vocab) != LLAMA_VOCAB_TYPE_BPE || std::ranges::all_of(text, is_single)) {
    return;
  }
  size_t bytes = 0;
  for (const int32_t token : tokens) bytes += piece(token, true).size();
  if (bytes >= text.size()) return;  // longer tokens hold those bytes
  const auto missing = std::ranges::find_if_not(text, is_single);
  throw Error(ErrorCode::kInput,
              fmt::format("{}: 'tokenizer.ggml.tokens' has no tokens for some bytes of the text "
                          "(0x{:02X}, for instance)",
                          path, static_cast<unsigned char>(*missing)));
}

/// Encodes text without control tokens. libllama sometimes merges letters into a control token;
/// such tokens are encoded letter by letter.
std::vector<int32_t> Tokenizer::Impl::plain_tokens(std::string_view text) const {
  std::vector<int32_t> merged = tokens(text, false);
  const auto is_control = [&](int32_t token) {
    return (llama_vocab_get_attr(vocab, token) & LLAMA_TOKEN_ATTR_CONTROL) != 0;
  };
  if (std::ranges::none_of(merged, is_control)) return merged;
  const std::string before = "\n";  // or SentencePiece puts a space before the letter
  const size_t before_tokens = tokens(before, false).size();
  std::vector<int32_t> spelled;
  for (const int32_t token : merged) {
    if (!is_control(token)) {
      spelled.push_back(token);
      continue;
    }
    const std::string letters = llama_vocab_get_text(vocab, token);
    for (size_t at = 0; at < letters.size();) {
      const size_t size = utf8_length(std::string_view(letters).substr(at));
      const std::vector<int32_t> letter = tokens(before + letters.substr(at, size), false);
      spelled.insert(spelled.end(), letter.begin() + static_cast<std::ptrdiff_t>(before_tokens),
                     letter.end());
      at += size;
    }
  }
  return spelled;
}

void Tokenizer::Impl::add_begin(std::vector<int32_t>& tokens) const {
  if (!llama_vocab_get_add_bos(vocab)) return;
  const llama_token begin = llama_vocab_bos(vocab);
  if (tokens.empty() || tokens.front() != begin) tokens.insert(tokens.begin(), begin);
}

/// libllama's time grows with the square of the number of control tokens in a text, so that it gets
/// parts of it. A part begins with a control token, as libllama itself would part the text there.
std::vector<int32_t> Tokenizer::Impl::parsed_tokens(std::string_view text) const {
  constexpr size_t kMarks = 64;  // of a part
  const std::vector<ControlTokens::Mark> marks = control->find(text);
  std::vector<int32_t> all;
  size_t begin = 0;
  for (size_t i = kMarks; i < marks.size(); i += kMarks) {
    const size_t end = marks[i].begin;
    // A control token may absorb the white space before it.
    if (kAsciiSpace.find(text[end - 1]) != std::string_view::npos) continue;
    const std::vector<int32_t> part = tokens(text.substr(begin, end - begin), true);
    all.insert(all.end(), part.begin(), part.end());
    begin = end;
  }
  std::vector<int32_t> rest = tokens(text.substr(begin), true);
  if (all.empty()) return rest;
  all.insert(all.end(), rest.begin(), rest.end());
  return all;
}

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special,
                                       bool parse_special) const {
  std::vector<int32_t> tokens =
      parse_special ? impl_->parsed_tokens(text) : impl_->plain_tokens(text);
  if (add_special) impl_->add_begin(tokens);
  return tokens;
}

ChatText ChatText::part(size_t begin, size_t end) const {
  end = std::min(end, text.size());
  ChatText some{.text = text.substr(begin, end - begin), .contents = {}};
  for (const TextRange& range : contents) {
    if (range.end <= begin || range.begin >= end) continue;
    some.contents.push_back(
        {std::max(range.begin, begin) - begin, std::min(range.end, end) - begin});
  }
  return some;
}

std::vector<int32_t> Tokenizer::encode(const ChatText& chat, bool add_special) const {
  const std::string_view text = chat.text;
  const auto overlaps = [](const ControlTokens::Mark& mark, const TextRange& range) {
    return mark.begin < range.end && range.begin < mark.end;
  };
  // Control tokens of the template, and the ranges that hold look-alikes of them.
  std::vector<ControlTokens::Mark> marks = impl_->control->find(text);
  std::vector<TextRange> forged;
  std::ranges::copy_if(chat.contents, std::back_inserter(forged), [&](const TextRange& range) {
    return std::ranges::any_of(marks, [&](const auto& mark) { return overlaps(mark, range); });
  });
  if (forged.empty()) return encode(text, add_special, true);
  std::erase_if(marks, [&](const auto& mark) {
    return std::ranges::any_of(forged, [&](const auto& range) { return overlaps(mark, range); });
  });

  // Text between two control tokens is encoded separately, as in libllama, but without parsing
  // special tokens where it holds a look-alike.
  std::vector<int32_t> tokens;
  const auto append = [&](const std::vector<int32_t>& more) {
    tokens.insert(tokens.end(), more.begin(), more.end());
  };
  const auto strips = [&](const ControlTokens::Mark& mark, llama_token_attr side) {
    return (llama_vocab_get_attr(impl_->vocab, mark.token) & side) != 0;
  };
  size_t read = 0;
  for (const TextRange& range : forged) {
    if (range.begin < read) continue;  // no control token since the last one
    const auto after =
        std::ranges::find_if(marks, [&](const auto& m) { return m.begin >= range.end; });
    const size_t end = after == marks.end() ? text.size() : after->begin;
    size_t begin = read;
    std::string_view between = text.substr(0, end);
    if (after != marks.begin()) begin = std::prev(after)->end;
    append(impl_->tokens(text.substr(read, begin - read), true));
    between.remove_prefix(begin);
    if (after != marks.begin() && strips(*std::prev(after), LLAMA_TOKEN_ATTR_RSTRIP)) {
      between.remove_prefix(std::min(between.find_first_not_of(kAsciiSpace), between.size()));
    }
    if (after != marks.end() && strips(*after, LLAMA_TOKEN_ATTR_LSTRIP)) {
      between = between.substr(0, between.find_last_not_of(kAsciiSpace) + 1);
    }
    append(impl_->plain_tokens(between));
    read = end;
  }
  append(impl_->tokens(text.substr(read), true));
  if (add_special) impl_->add_begin(tokens);
  return tokens;
}

size_t Tokenizer::least_tokens(std::string_view text) const {
  // A control token may absorb the white space beside it.
  return (text.size() - count_spaces(text)) / impl_->longest_token;
}

std::string Tokenizer::piece(int32_t token, bool render_special) const {
  return impl_->piece(token, render_special);
}

std::string Tokenizer::Impl::piece(int32_t token, bool render_special) const {
  std::string text(64, '\0');
  const auto write = [&] {
    return llama_token_to_piece(vocab, token, text.data(), static_cast<int32_t>(text.size()), 0,
                                render_special);
  };
  int32_t size = write();
  if (size < 0) {
    text.resize(static_cast<size_t>(-size));
    size = write();
  }
  text.resize(static_cast<size_t>(std::max(size, 0)));
  return text;
}

std::string Tokenizer::decode(std::span<const int32_t> tokens, bool render_special) const {
  std::string text;
  for (const int32_t token : tokens) text += piece(token, render_special);
  return text;
}

bool Tokenizer::is_end(int32_t token) const { return llama_vocab_is_eog(impl_->vocab, token); }

const std::vector<int32_t>& Tokenizer::end_tokens() const { return impl_->end_tokens; }

size_t Tokenizer::vocabulary() const {
  return static_cast<size_t>(llama_vocab_n_tokens(impl_->vocab));
}

int32_t Tokenizer::prefix_token() const {
  for (const int32_t token : {llama_vocab_bos(impl_->vocab), llama_vocab_eos(impl_->vocab)}) {
    if (token != LLAMA_TOKEN_NULL) return token;
  }
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("{}: the tokenizer has no token for the begin or end of a text", impl_->path));
}

bool Tokenizer::has_chat_template() const {
  return llama_model_chat_template(impl_->model.get(), nullptr) != nullptr;
}

const char* Tokenizer::chat_template() const {
  const char* text = llama_model_chat_template(impl_->model.get(), nullptr);
  if (text != nullptr) return text;
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("{}: has no chat template (a base model?); give the prompt as it is (raw)",
                  impl_->path));
}

std::string Tokenizer::apply_chat_template(std::span<const ChatMessage> messages) const {
  return apply_template(chat_template(), messages, impl_->path);
}

ChatText Tokenizer::format_chat(std::span<const ChatMessage> messages, bool parse_special) const {
  if (parse_special) return {.text = apply_chat_template(messages), .contents = {}};
  return format_with_template(chat_template(), messages, impl_->path);
}

const llama_model* Tokenizer::native() const { return impl_->model.get(); }

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  const size_t complete = complete_utf8(pending_);
  std::string out = replace_invalid_utf8(std::string_view(pending_).substr(0, complete));
  pending_.erase(0, complete);
  return out;
}

}  // namespace restkv
