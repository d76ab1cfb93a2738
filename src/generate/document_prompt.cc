#include "generate/document_prompt.h"

#include <utility>

#include "restkv/conversation.h"
#include "restkv/error.h"

namespace restkv {

DocumentFrame document_frame(const ChatText& chat) {
  const size_t place = chat.text.find(kDocumentMark);
  if (place == std::string::npos) {
    throw Error(ErrorCode::kUnsupported,
                "the model's chat template does not repeat a message as it is: a document cannot "
                "be read before its questions");
  }
  return {chat.part(0, place), chat.part(place + kDocumentMark.size())};
}

std::vector<int32_t> document_tokens(const Tokenizer& tokenizer, const ChatText& before,
                                     const std::string& text) {
  std::vector<int32_t> tokens = tokenizer.encode(before, true);
  const std::vector<int32_t> rest = tokenizer.encode(text, tokens.empty(), false);
  tokens.insert(tokens.end(), rest.begin(), rest.end());
  return tokens;
}

DocumentPrompt::DocumentPrompt(const Tokenizer& tokenizer, std::string system)
    : tokenizer_(tokenizer), system_(std::move(system)) {
  if (tokenizer.has_chat_template()) static_cast<void>(frame(""));
}

DocumentFrame DocumentPrompt::frame(const std::string& behind) const {
  std::vector<ChatMessage> messages;
  if (!system_.empty()) messages.push_back({"system", system_});
  messages.push_back({"user", std::string(kDocumentMark) + behind});
  return document_frame(tokenizer_.format_chat(messages));
}

std::vector<int32_t> DocumentPrompt::document(const std::string& text) const {
  if (!tokenizer_.has_chat_template()) return tokenizer_.encode(text, true, false);
  return document_tokens(tokenizer_, frame("").before, text);
}

RepeatPrompt DocumentPrompt::repeat_prompt() const {
  const Conversation conversation = tokenizer_.has_chat_template()
                                        ? Conversation(tokenizer_, system_)
                                        : Conversation::plain_text(tokenizer_, false);
  return conversation.repeat_prompt();
}

std::vector<int32_t> DocumentPrompt::question(const std::string& text) const {
  const std::string behind = std::string(kBehindDocument) + text;
  if (!tokenizer_.has_chat_template()) return tokenizer_.encode(behind, false, false);
  return tokenizer_.encode(frame(behind).behind, false);
}

}  // namespace restkv
