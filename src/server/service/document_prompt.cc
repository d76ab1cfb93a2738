#include "server/service/document_prompt.h"

#include <algorithm>
#include <utility>

#include "server/http/http_error.h"
#include "server/openai/generic_tools.h"

namespace restkv::server {
namespace {

constexpr std::string_view kMark = "[restkv: the document stands here, 1c0a6a61f2b7]";
constexpr std::string_view kBetween = "\n\n";

}  // namespace

std::vector<int32_t> document_tokens(const std::string& text, const Tokenizer& tokenizer,
                                     const ChatFormat* chat) {
  if (chat == nullptr) return tokenizer.encode(text, true, false);
  Chat shape;
  shape.messages.push_back({.role = "user", .content = std::string(kMark)});
  const ChatText rendered = chat->render(shape).text;
  const size_t begin = rendered.text.find(kMark);
  std::vector<int32_t> tokens =
      tokenizer.encode(rendered.part(0, begin == std::string::npos ? 0 : begin), true);
  const std::vector<int32_t> rest = tokenizer.encode(text, tokens.empty(), false);
  tokens.insert(tokens.end(), rest.begin(), rest.end());
  return tokens;
}

Chat chat_behind_document(Chat chat) {
  std::string before;
  while (!chat.messages.empty() &&
         (chat.messages.front().role == "system" || chat.messages.front().role == "developer")) {
    before += chat.messages.front().content;
    before += kBetween;
    chat.messages.erase(chat.messages.begin());
  }
  if (may_call(chat)) {
    before += tools_description(chat);
    before += kBetween;
    chat.describes_tools = true;
  }
  if (chat.messages.empty() || chat.messages.front().role != "user") {
    throw HttpError(400, "'messages' must begin with a user's message beside a 'document'",
                    {.param = "messages"});
  }
  std::string& question = chat.messages.front().content;
  if (question.find(kMark) != std::string::npos) {
    throw HttpError(400, "'messages' holds the server's mark for documents; take it out",
                    {.param = "messages"});
  }
  question = std::string(kMark).append(kBetween).append(before).append(question);
  return chat;
}

ChatText text_behind_document(const ChatText& rendered) {
  const size_t begin = rendered.text.find(kMark);
  if (begin == std::string::npos) {
    throw HttpError(400,
                    "the model's chat template leaves out the first message: a 'document' "
                    "cannot be used with it");
  }
  return rendered.part(begin + kMark.size());
}

}  // namespace restkv::server
