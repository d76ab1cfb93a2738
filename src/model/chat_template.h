#pragma once

#include <span>
#include <string>

#include "restkv/tokenizer.h"

namespace restkv {

/// A conversation as libllama writes it for this template, ready for the assistant's answer. Throws
/// `Error`: kInvalidArgument if a message holds a zero byte, kUnsupported if libllama does not know
/// the template. `path` is that of the model, for messages.
std::string apply_template(const char* chat_template, std::span<const ChatMessage> messages,
                           const std::string& path);

/// The same, with the places where the contents of the messages stand.
ChatText format_with_template(const char* chat_template, std::span<const ChatMessage> messages,
                              const std::string& path);

}  // namespace restkv
