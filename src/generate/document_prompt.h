#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "restkv/repeat.h"
#include "restkv/tokenizer.h"

namespace restkv {

/// Stands for a document in a chat while the template is applied.
inline constexpr std::string_view kDocumentMark =
    "[restkv: the document stands here, 5d0e3b77a91c]";
/// Between a document and what is said about it.
inline constexpr std::string_view kBehindDocument = "\n\n";

/// What stands before and behind the mark.
struct DocumentFrame {
  ChatText before, behind;
};
/// Throws `Error` (kUnsupported) if the template has left the mark out, or a part of it.
DocumentFrame document_frame(const ChatText& chat);
/// The tokens of a document and of what stands before it.
std::vector<int32_t> document_tokens(const Tokenizer& tokenizer, const ChatText& before,
                                     const std::string& text);

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
  /// With this behind the document.
  [[nodiscard]] DocumentFrame frame(const std::string& behind) const;

  const Tokenizer& tokenizer_;
  std::string system_;
};

}  // namespace restkv
