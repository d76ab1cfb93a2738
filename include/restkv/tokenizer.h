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

/// A conversation in a model's own format.
struct ChatText {
  std::string text;
  /// Where the contents of the messages stand, in ascending order; the rest is the template's.
  std::vector<TextRange> contents;

  /// Its bytes [begin, end), with the contents that lie there.
  [[nodiscard]] ChatText part(size_t begin, size_t end = std::string::npos) const;
};

/// Text to token ids and back, and the model's chat template; libllama reads the vocabulary of the
/// GGUF file without its weights. Texts are UTF-8.
class Tokenizer {
 public:
  /// Throws `Error` (kInput) if the file has no usable vocabulary.
  explicit Tokenizer(const std::string& path);
  ~Tokenizer();

  /// `add_special`: begin-of-text, if the model wants it and the text does not begin with it
  /// already; an end is never added. `parse_special`: text such as <|im_end|> becomes its control
  /// token (for templates; keep it off for untrusted text). Throws `Error` (kInput) on a text that
  /// cannot be encoded: one that the vocabulary has no tokens for, or with a line of millions of
  /// characters.
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text, bool add_special,
                                            bool parse_special) const;
  /// The same with control tokens, but contents are text, whatever they look like. Without such
  /// look-alikes, exactly the tokens of the whole text with `parse_special`.
  [[nodiscard]] std::vector<int32_t> encode(const ChatText& chat, bool add_special) const;
  /// No encoding of a text has fewer tokens; takes no time.
  [[nodiscard]] size_t least_tokens(std::string_view text) const;
  /// The bytes of one token; may end within a UTF-8 character. Control tokens give "", or their
  /// text with `render_special`.
  [[nodiscard]] std::string piece(int32_t token, bool render_special = false) const;
  [[nodiscard]] std::string decode(std::span<const int32_t> tokens,
                                   bool render_special = false) const;
  /// Whether generation ends with this token (end of text, end of turn).
  [[nodiscard]] bool is_end(int32_t token) const;
  /// All such tokens, in ascending order.
  [[nodiscard]] const std::vector<int32_t>& end_tokens() const;
  [[nodiscard]] size_t vocabulary() const;
  /// What the first token of a text follows when nothing else stands before it: begin of text, or
  /// end of text where the vocabulary has no other. Throws `Error` (kUnsupported) if it has
  /// neither.
  [[nodiscard]] int32_t prefix_token() const;

  /// Whether the file carries a chat template, that is, whether this is an instruct model.
  [[nodiscard]] bool has_chat_template() const;
  /// The conversation in the model's own format, ready for the assistant's answer. Throws `Error`:
  /// kUnsupported if there is no template or libllama does not know it, kInvalidArgument if a
  /// message holds a zero byte.
  [[nodiscard]] std::string apply_chat_template(std::span<const ChatMessage> messages) const;
  /// The same, with the places of the messages, for `encode`. `parse_special`: without them, so
  /// that control tokens in messages are control tokens.
  [[nodiscard]] ChatText format_chat(std::span<const ChatMessage> messages,
                                     bool parse_special = false) const;

  /// For functions of libllama: the vocabulary and the templates, without weights.
  [[nodiscard]] const llama_model* native() const;

 private:
  struct Impl;
  [[nodiscard]] const char* chat_template() const;

  std::unique_ptr<Impl> impl_;
};

/// Hands out text in whole UTF-8 characters while bytes arrive token by token. Bytes that belong to
/// no character become U+FFFD; a character that never ends is not handed out.
class Utf8Stream {
 public:
  /// What is complete after these bytes.
  std::string push(std::string_view bytes);

 private:
  std::string pending_;
};

}  // namespace restkv
