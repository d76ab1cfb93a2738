#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace restkv {

struct ChatMessage {
  std::string role;  ///< "system", "user" or "assistant".
  std::string content;
};

/// Text to token ids and back, and the model's chat template; libllama reads the vocabulary of the
/// GGUF file without its weights.
class Tokenizer {
 public:
  /// Throws `Error` (kInput) if the file has no usable vocabulary.
  explicit Tokenizer(const std::string& path);
  ~Tokenizer();

  /// `add_special`: begin-of-text and the like, as the model wants them. `parse_special`: text such
  /// as <|im_end|> becomes its control token (for templates; keep it off for untrusted text).
  [[nodiscard]] std::vector<int32_t> encode(std::string_view text, bool add_special,
                                            bool parse_special) const;
  /// The bytes of one token; may end within a UTF-8 character. Control tokens give "".
  [[nodiscard]] std::string piece(int32_t token) const;
  [[nodiscard]] std::string decode(std::span<const int32_t> tokens) const;
  /// Whether generation ends with this token (end of text, end of turn).
  [[nodiscard]] bool is_end(int32_t token) const;
  [[nodiscard]] size_t vocabulary() const;
  /// What the first token of a text follows when nothing else stands before it: begin of text, or
  /// end of text where the vocabulary has no other. Throws `Error` (kUnsupported) if it has
  /// neither.
  [[nodiscard]] int32_t prefix_token() const;

  /// Whether the file carries a chat template, that is, whether this is an instruct model.
  [[nodiscard]] bool has_chat_template() const;
  /// The conversation in the model's own format, ready for the assistant's answer. Throws `Error`
  /// (kUnsupported) if there is no template or libllama does not know it.
  [[nodiscard]] std::string apply_chat_template(std::span<const ChatMessage> messages) const;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

/// Hands out text in whole UTF-8 characters while bytes arrive token by token.
class Utf8Stream {
 public:
  /// What is complete after these bytes.
  std::string push(std::string_view bytes);
  /// What remains (an incomplete character) at the end.
  std::string flush();

 private:
  std::string pending_;
};

}  // namespace restkv
