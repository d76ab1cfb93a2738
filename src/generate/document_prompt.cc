#include "generate/document_prompt.h"

#include <utility>

#include "restkv/conversation.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Stands for the document while the template is applied.
constexpr std::string_view kMark = "[restkv: the document stands here, 5d0e3b77a91c]";
constexpr std::string_view kBetween = "\n\n";

}  // namespace

DocumentPrompt::DocumentPrompt(const Tokenizer& tokenizer, std::string system)
    : tokenizer_(tokenizer), system_(std::move(system)) {
  size_t place = 0;
  if (tokenizer.has_chat_template()) static_cast<void>(chat("", place));
}

ChatText DocumentPrompt::chat(const std::string& behind, size_t& place) const {
  std::vector<ChatMessage> messages;
  if (!system_.empty()) messages.push_back({"system", system_});
  messages.push_back({"user", std::string(kMark) + behind});
  ChatText text = tokenizer_.format_chat(messages);
  place = text.text.find(kMark);
  if (place == std::string::npos) {
    throw Error(ErrorCode::kUnsupported,
                "the model's chat template does not repeat a message as it is: a document cannot "
                "be read before its questions");
  }
  return text;
}

std::vector<int32_t> DocumentPrompt::document(const std::string& text) const {
  if (!tokenizer_.has_chat_template()) return tokenizer_.encode(text, true, false);
  size_t place = 0;
  const ChatText whole = chat("", place);
  std::vector<int32_t> tokens = tokenizer_.encode(whole.part(0, place), true);
  const std::vector<int32_t> rest = tokenizer_.encode(text, tokens.empty(), false);
  tokens.insert(tokens.end(), rest.begin(), rest.end());
  return tokens;
}

RepeatPrompt DocumentPrompt::repeat_prompt() const {
  const Conversation conversation = tokenizer_.has_chat_template()
                                        ? Conversation(tokenizer_, system_)
                                        : Conversation::plain_text(tokenizer_, false);
  return conversation.repeat_prompt();
}

std::vector<int32_t> DocumentPrompt::question(const std::string& text) const {
  const std::string behind = std::string(kBetween) + text;
  if (!tokenizer_.has_chat_template()) return tokenizer_.encode(behind, false, false);
  size_t place = 0;
  const ChatText whole = chat(behind, place);
  return tokenizer_.encode(whole.part(place + kMark.size()), false);
}

}  // namespace restkv
