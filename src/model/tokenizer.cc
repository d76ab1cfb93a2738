#include "restkv/tokenizer.h"

#include <fmt/format.h>
#include <llama.h>

#include <algorithm>
#include <limits>
#include <stdexcept>
#include <utility>

#include "model/ggml_log.h"
#include "model/vocabulary.h"
#include "restkv/error.h"

namespace restkv {

struct Tokenizer::Impl {
  std::string path;
  std::unique_ptr<llama_model, decltype(&llama_model_free)> model{nullptr, llama_model_free};
  const llama_vocab* vocab = nullptr;
};

Tokenizer::Tokenizer(const std::string& path) : impl_(std::make_unique<Impl>()) {
  check_vocabulary(GgufFile(path));
  llama_model_params params = llama_model_default_params();
  params.vocab_only = true;
  impl_->path = path;
  impl_->model.reset(llama_model_load_from_file(path.c_str(), params));
  if (impl_->model == nullptr) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: libllama cannot use the tokenizer ('tokenizer.ggml'): {}", path,
                            take_ggml_errors()));
  }
  impl_->vocab = llama_model_get_vocab(impl_->model.get());
  // Encoding would end the process.
  const auto require = [&](bool added, llama_token token, const char* name) {
    if (added && token == LLAMA_TOKEN_NULL) {
      throw Error(ErrorCode::kInput,
                  fmt::format("{}: 'tokenizer.ggml.add_{}_token' asks for a token that the "
                              "vocabulary does not have ('tokenizer.ggml.{}_token_id')",
                              path, name, name));
    }
  };
  require(llama_vocab_get_add_bos(impl_->vocab), llama_vocab_bos(impl_->vocab), "bos");
  require(llama_vocab_get_add_eos(impl_->vocab), llama_vocab_eos(impl_->vocab), "eos");
}

Tokenizer::~Tokenizer() = default;

std::vector<int32_t> Tokenizer::encode(std::string_view text, bool add_special,
                                       bool parse_special) const {
  if (text.size() > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a text of {} bytes is too long; the limit is 2 GiB", text.size()));
  }
  const auto length = static_cast<int32_t>(text.size());
  std::vector<int32_t> tokens(text.size() / 2 + 16);
  const auto encode_into = [&] {
    return llama_tokenize(impl_->vocab, text.data(), length, tokens.data(),
                          static_cast<int32_t>(tokens.size()), add_special, parse_special);
  };
  int32_t count = 0;
  try {
    count = encode_into();
    if (count < 0 && count != std::numeric_limits<int32_t>::min()) {
      tokens.resize(static_cast<size_t>(-count));
      count = encode_into();
    }
  } catch (const std::out_of_range&) {
    throw Error(ErrorCode::kInput,
                fmt::format("{}: 'tokenizer.ggml.tokens' has no tokens for some bytes of the text",
                            impl_->path));
  }
  if (count < 0) {
    throw Error(ErrorCode::kInput, fmt::format("{}: the tokenizer failed", impl_->path));
  }
  tokens.resize(static_cast<size_t>(count));
  return tokens;
}

std::string Tokenizer::piece(int32_t token) const {
  std::string text(64, '\0');
  const auto write = [&] {
    return llama_token_to_piece(impl_->vocab, token, text.data(), static_cast<int32_t>(text.size()),
                                0, false);
  };
  int32_t size = write();
  if (size < 0) {
    text.resize(static_cast<size_t>(-size));
    size = write();
  }
  text.resize(static_cast<size_t>(std::max(size, 0)));
  return text;
}

std::string Tokenizer::decode(std::span<const int32_t> tokens) const {
  std::string text;
  for (const int32_t token : tokens) text += piece(token);
  return text;
}

bool Tokenizer::is_end(int32_t token) const { return llama_vocab_is_eog(impl_->vocab, token); }

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

std::string Tokenizer::apply_chat_template(std::span<const ChatMessage> messages) const {
  const char* format = llama_model_chat_template(impl_->model.get(), nullptr);
  if (format == nullptr) {
    throw Error(ErrorCode::kUnsupported,
                fmt::format("{}: has no chat template (a base model?); use --raw", impl_->path));
  }
  std::vector<llama_chat_message> list;
  size_t size = 256;
  for (const ChatMessage& m : messages) {
    list.push_back({m.role.c_str(), m.content.c_str()});
    size += m.content.size() + 64;
  }
  std::string text(size, '\0');
  const auto apply = [&] {
    return llama_chat_apply_template(format, list.data(), list.size(), true, text.data(),
                                     static_cast<int32_t>(text.size()));
  };
  int32_t length = apply();
  if (length > static_cast<int32_t>(text.size())) {
    text.resize(static_cast<size_t>(length));
    length = apply();
  }
  if (length < 0) {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("{}: libllama does not know its 'tokenizer.chat_template'; format the prompt "
                    "yourself and use --raw",
                    impl_->path));
  }
  text.resize(static_cast<size_t>(length));
  return text;
}

std::string Utf8Stream::push(std::string_view bytes) {
  pending_ += bytes;
  // Find a character that has begun but not ended within the last three bytes.
  size_t complete = pending_.size();
  for (size_t back = 1; back <= std::min<size_t>(3, pending_.size()); ++back) {
    const auto byte = static_cast<unsigned char>(pending_[pending_.size() - back]);
    if ((byte & 0xC0U) == 0x80U) continue;  // a continuation byte
    const size_t length = byte >= 0xF0U ? 4 : byte >= 0xE0U ? 3 : byte >= 0xC0U ? 2 : 1;
    if (length > back) complete = pending_.size() - back;
    break;
  }
  std::string out = pending_.substr(0, complete);
  pending_.erase(0, complete);
  return out;
}

std::string Utf8Stream::flush() { return std::exchange(pending_, {}); }

}  // namespace restkv
