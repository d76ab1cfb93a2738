#pragma once

#include <string>
#include <vector>

#include "server/openai/chat_format.h"
#include "server/openai/chat_request.h"

/// A document stands at the beginning of the first message of a chat. It is read once, with what
/// the template has before it; chats go on behind it.
namespace restkv::server {

/// The tokens of a document: for models without a template, of the text alone. `chat`: null for
/// these.
std::vector<int32_t> document_tokens(const std::string& text, const Tokenizer& tokenizer,
                                     const ChatFormat* chat);

/// The chat with `kDocumentMark` in place of the document. A system message and descriptions of
/// tools, which would stand before the document, become the beginning of the question. Throws
/// `HttpError` (400) if there is no message of a user to put it in.
Chat chat_behind_document(Chat chat);

}  // namespace restkv::server
