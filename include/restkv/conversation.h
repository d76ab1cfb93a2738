#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "restkv/repeat.h"
#include "restkv/tokenizer.h"

namespace restkv {

/// A chat in the format of a model's template, for a cache that holds all turns but the newest:
/// each turn costs only its own tokens.
class Conversation {
 public:
  /// `tokenizer` must outlive the conversation. An empty `system` adds no system message.
  /// `parse_special`: control tokens in messages are encoded as such; otherwise they are text.
  explicit Conversation(const Tokenizer& tokenizer, const std::string& system = {},
                        bool parse_special = false);
  /// A conversation without turns or template: `ask` appends its text unchanged. `parse_special` as
  /// in `Tokenizer::encode`.
  static Conversation plain_text(const Tokenizer& tokenizer, bool parse_special);
  [[nodiscard]] bool is_plain_text() const { return plain_text_; }
  /// An empty conversation with the same system message and options.
  [[nodiscard]] Conversation begun_anew() const;

  /// For methods that let the model repeat a prompt: it is asked in a further turn, whose answer
  /// the prompt's text begins. What the template puts before the first message of the user, system
  /// message included, is not repeated.
  [[nodiscard]] RepeatPrompt repeat_prompt() const;

  struct Turn {
    std::vector<int32_t> tokens;
    /// The chat template rendered earlier turns differently: `tokens` are the whole conversation,
    /// for an empty cache.
    bool from_the_start = false;
  };
  /// Adds a message of the user and returns the tokens to append to the cache before the model
  /// answers. Throws `Error`: kInvalidArgument if `text` holds a zero byte, and as
  /// `Tokenizer::format_chat` and `Tokenizer::encode` do; the conversation is then as it was.
  [[nodiscard]] Turn ask(const std::string& text);
  /// Begins a message of the user with a document and returns the tokens to append, so that it is
  /// read, and compressed, before anything is asked about it: the next `ask` is the rest of the
  /// message, behind an empty line, and so is another document. Throws as `ask` does, and `Error`:
  /// kInvalidArgument (plain text, or an empty document), kUnsupported (the template does not
  /// repeat a message as it is). White space around the document is left out.
  [[nodiscard]] Turn read_document(const std::string& text);
  /// Whether a document was read that nothing has been asked about yet.
  [[nodiscard]] bool has_document() const { return !opened_.empty(); }
  /// Adds the model's answer to the last `ask`. `pending`: last tokens of the answer that were not
  /// appended to the cache. The next turn begins with them.
  void answer(std::string text, std::vector<int32_t> pending);

  /// The text in the cache, in the template's form, with what of it is still to be appended.
  [[nodiscard]] const std::string& text() const { return read_; }

  /// For snapshots. `from_json` throws `Error` (kInput) on JSON that `to_json` cannot have written.
  [[nodiscard]] std::string to_json() const;
  void from_json(const std::string& json);

 private:
  /// Content of the last message if it is the model's.
  [[nodiscard]] std::string last_answer() const;

  const Tokenizer* tokenizer_;
  std::vector<ChatMessage> messages_;
  std::string read_;    ///< The text in the cache, `pending_` included.
  std::string opened_;  ///< Documents that the next message of the user begins with.
  std::vector<int32_t> pending_;
  bool plain_text_ = false;
  bool parse_special_;
};

/// The same for a text that stands in the model's chat template, if it has one, or alone.
[[nodiscard]] RepeatPrompt repeat_prompt(const Tokenizer& tokenizer);

}  // namespace restkv
