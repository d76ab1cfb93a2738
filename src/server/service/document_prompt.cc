#include "server/service/document_prompt.h"

#include <utility>

#include "generate/document_prompt.h"
#include "server/http/http_error.h"
#include "server/openai/generic_tools.h"

namespace restkv::server {

std::vector<int32_t> document_tokens(const std::string& text, const Tokenizer& tokenizer,
                                     const ChatFormat* chat) {
  if (chat == nullptr) return tokenizer.encode(text, true, false);
  Chat shape;
  shape.messages.push_back({.role = "user", .content = std::string(kDocumentMark)});
  const DocumentFrame frame = document_frame(chat->render(shape).text);
  return restkv::document_tokens(tokenizer, frame.before, text);
}

Chat chat_behind_document(Chat chat) {
  std::string before;
  while (!chat.messages.empty() &&
         (chat.messages.front().role == "system" || chat.messages.front().role == "developer")) {
    before += chat.messages.front().content;
    before += kBehindDocument;
    chat.messages.erase(chat.messages.begin());
  }
  if (may_call(chat)) {
    before += tools_description(chat);
    before += kBehindDocument;
    chat.describes_tools = true;
  }
  if (chat.messages.empty() || chat.messages.front().role != "user") {
    throw HttpError(400, "'messages' must begin with a user's message beside a 'document'",
                    {.param = "messages"});
  }
  std::string& question = chat.messages.front().content;
  if (question.find(kDocumentMark) != std::string::npos) {
    throw HttpError(400, "'messages' holds the server's mark for documents; take it out",
                    {.param = "messages"});
  }
  question = std::string(kDocumentMark).append(kBehindDocument).append(before).append(question);
  return chat;
}

}  // namespace restkv::server
