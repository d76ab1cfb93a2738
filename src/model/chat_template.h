#pragma once

#include <span>
#include <string>

#include "restkv/tokenizer.h"

namespace restkv {

/// A conversation in this template by libllama, ready for the assistant's answer. Throws `Error`:
/// kInvalidArgument if a message holds a zero byte, kUnsupported if libllama does not know the
/// template. `path` is the model's, for messages.
std::string apply_template(const char* chat_template, std::span<const ChatMessage> messages,
                           const std::string& path);

/// The same with the ranges of the contents of the messages.
ChatText format_with_template(const char* chat_template, std::span<const ChatMessage> messages,
                              const std::string& path);

}  // namespace restkv
