#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "restkv/tokenizer.h"

namespace restkv {

/// A chat as a model's template writes it, turn by turn, beside a cache that has read all of it but
/// the newest turn: each turn costs only its own tokens.
class Conversation {
 public:
  /// `tokenizer` must outlive the conversation. An empty system message is none. `parse_special`:
  /// control tokens in what is said are control tokens; otherwise they are text.
  explicit Conversation(const Tokenizer& tokenizer, const std::string& system = {},
                        bool parse_special = false);
  /// One text without turns or template: what is asked is appended as it is, the answer behind it.
  /// `parse_special` as in `Tokenizer::encode`.
  static Conversation plain_text(const Tokenizer& tokenizer, bool parse_special);
  [[nodiscard]] bool is_plain_text() const { return plain_text_; }
  /// One in which nothing has been said yet, with the same system message.
  [[nodiscard]] Conversation begun_anew() const;

  struct Turn {
    std::vector<int32_t> tokens;
    /// The template writes what was said before in another way now that more has been said: these
    /// are the tokens of the whole conversation, for an empty cache.
    bool from_the_start = false;
  };
  /// What must be appended to the cache, once the user has said `text`, to have the model answer.
  [[nodiscard]] Turn ask(const std::string& text);
  /// The model has answered to the last `ask`. `pending`: last tokens of the answer that were not
  /// appended to the cache; they go ahead of the next turn.
  void answer(std::string text, std::vector<int32_t> pending);

  /// For snapshots: `from_json` throws `Error` (kInput) on what `to_json` cannot have written.
  [[nodiscard]] std::string to_json() const;
  void from_json(const std::string& json);

 private:
  const Tokenizer* tokenizer_;
  std::vector<ChatMessage> messages_;
  std::string read_;  ///< The conversation as the cache has read it, `pending_` included.
  std::vector<int32_t> pending_;
  bool plain_text_ = false;
  bool parse_special_;
};

}  // namespace restkv
