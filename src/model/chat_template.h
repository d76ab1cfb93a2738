#pragma once

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "restkv/tokenizer.h"

namespace restkv {

/// A conversation in this template by libllama, ready for the assistant's answer. Throws `Error`:
/// kInvalidArgument if a message holds a zero byte, kUnsupported if libllama does not know the
/// template. `path` is the model's, for messages.
std::string apply_template(const char* chat_template, std::span<const ChatMessage> messages,
                           const std::string& path);

/// What `render` makes of the contents of messages, with the ranges in which they stand. `render`
/// is called with a mark in place of each content, which shows where it goes and, by the white
/// space around it, whether it is trimmed. A template that changes contents in other ways is found
/// by comparing the text with the rendered one.
ChatText locate_contents(
    std::span<const std::string> contents,
    const std::function<std::string(const std::vector<std::string>& contents)>& render);

/// `apply_template` with the ranges of the contents of the messages. Throws `Error` (kUnsupported)
/// as well if the template changes them.
ChatText format_with_template(const char* chat_template, std::span<const ChatMessage> messages,
                              const std::string& path);

}  // namespace restkv
