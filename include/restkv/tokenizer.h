#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

struct llama_model;

namespace restkv {

struct ChatMessage {
  std::string role;  ///< "system", "user" or "assistant".
  std::string content;
};

/// Bytes [begin, end) of a text.
struct TextRange {
  size_t begin = 0;
  size_t end = 0;
};

/// A conversation in the format of a model's chat template.
struct ChatText {
  std::string text;
  /// Ranges of the contents of the messages, in ascending order; the rest comes from the template.
  std::vector<TextRange> contents;

  /// Bytes [begin, end) of the text, with the contents in that range.
  [[nodiscard]] ChatText part(size_t begin, size_t end = std::string::npos) const;
};

/// Converts text to token ids and back, and applies the model's chat template. libllama reads the
/// vocabulary of the GGUF file without its weights. Texts are UTF-8.
class Tokenizer {
 public:
  /// Throws `Error` (kInput) if the file has no usable vocabulary.
  explicit Tokenizer(const std::string& path);
  ~Tokenizer();

  /// `add_special` adds begin-of-text if the model uses it and the text does not begin with it; an
  /// end is never added. With `parse_special`, text such as <|im_end|> becomes its control token
  /// (for templates; keep it off for untrusted text). Throws `Error` (kInput) if the vocabulary has
  /// no tokens for the text or a line has millions of characters.
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text, bool add_special,
                                            bool parse_special) const;
  /// Encodes a chat: control tokens of the template are parsed, contents are always text. If no
  /// content looks like a control token, the tokens are those of the whole text with
  /// `parse_special`.
  [[nodiscard]] std::vector<int32_t> encode(const ChatText& chat, bool add_special) const;
  /// A lower bound for the number of tokens of a text, without encoding it.
  [[nodiscard]] size_t least_tokens(std::string_view text) const;
  /// The bytes of one token, which may end within a UTF-8 character. Control tokens give "", or
  /// their text with `render_special`.
  [[nodiscard]] std::string piece(int32_t token, bool render_special = false) const;
  [[nodiscard]] std::string decode(std::span<const int32_t> tokens,
                                   bool render_special = false) const;
  /// Whether generation ends with this token (end of text, end of turn).
  [[nodiscard]] bool is_end(int32_t token) const;
  /// All end tokens, in ascending order.
  [[nodiscard]] const std::vector<int32_t>& end_tokens() const;
  [[nodiscard]] size_t vocabulary() const;
  /// The token before the first token of a text: begin of text, or end of text if the vocabulary
  /// has no begin of text. Throws `Error` (kUnsupported) if it has neither.
  [[nodiscard]] int32_t prefix_token() const;

  /// Whether the file has a chat template, that is, whether this is an instruct model.
  [[nodiscard]] bool has_chat_template() const;
  /// The conversation in the model's format, ready for the assistant's answer. Throws `Error`:
  /// kUnsupported if there is no template or libllama does not know it, kInvalidArgument if a
  /// message holds a zero byte.
  [[nodiscard]] std::string apply_chat_template(std::span<const ChatMessage> messages) const;
  /// The same with the ranges of the contents, for `encode`. With `parse_special` there are no
  /// ranges, so that control tokens in messages are parsed.
  [[nodiscard]] ChatText format_chat(std::span<const ChatMessage> messages,
                                     bool parse_special = false) const;

  /// For functions of libllama: the vocabulary and the templates, without weights.
  [[nodiscard]] const llama_model* native() const;

 private:
  struct Impl;
  [[nodiscard]] const char* chat_template() const;

  std::unique_ptr<Impl> impl_;
};

/// Splits a stream of bytes into whole UTF-8 characters. Bytes that belong to no character become
/// U+FFFD; an incomplete character at the end is dropped.
class Utf8Stream {
 public:
  /// Returns the characters that are complete after these bytes.
  std::string push(std::string_view bytes);

 private:
  std::string pending_;
};

}  // namespace restkv
