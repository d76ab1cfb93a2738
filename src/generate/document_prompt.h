#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "restkv/repeat.h"
#include "restkv/tokenizer.h"

namespace restkv {

/// A document at the beginning of a user's message, which is read before anything is asked about
/// it, and the questions that may follow it.
class DocumentPrompt {
 public:
  /// `tokenizer` must outlive it. Without a chat template the question follows the bare document.
  /// Throws `Error`: kUnsupported if the template leaves the message out or shortens it, and as
  /// `Tokenizer::format_chat` does.
  explicit DocumentPrompt(const Tokenizer& tokenizer, std::string system = {});

  /// What the template has before the message, and the document.
  [[nodiscard]] std::vector<int32_t> document(const std::string& text) const;
  /// For methods that let the model repeat the document.
  [[nodiscard]] RepeatPrompt repeat_prompt() const;
  /// What follows the document: an empty line, the question, and the rest of the template.
  [[nodiscard]] std::vector<int32_t> question(const std::string& text) const;

 private:
  /// The chat with this behind the place of the document, and where that is.
  [[nodiscard]] ChatText chat(const std::string& behind, size_t& place) const;

  const Tokenizer& tokenizer_;
  std::string system_;
};

}  // namespace restkv
