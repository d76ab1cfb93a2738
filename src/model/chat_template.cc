#include "model/chat_template.h"

#include <fmt/format.h>
#include <llama.h>

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "base/text.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// White space that no template has.
constexpr char kTrimmed = '\v';

/// Placeholder for the content of message `index`, in private-use characters.
std::string placeholder(size_t index) { return fmt::format("\uE000{}\uE001", index); }

}  // namespace

std::string apply_template(const char* chat_template, std::span<const ChatMessage> messages,
                           const std::string& path) {
  std::vector<llama_chat_message> list;
  size_t size = 256;
  for (const ChatMessage& m : messages) {
    require_no_zero_byte(m.role, "the role of a message");
    require_no_zero_byte(m.content, fmt::format("the {}'s message", m.role));
    list.push_back({m.role.c_str(), m.content.c_str()});
    size += m.content.size() + 64;
  }
  if (size > static_cast<size_t>(std::numeric_limits<int32_t>::max())) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("a conversation of {} bytes is too long; the limit is 2 GiB", size));
  }
  std::string text(size, '\0');
  const auto apply = [&] {
    return llama_chat_apply_template(chat_template, list.data(), list.size(), true, text.data(),
                                     static_cast<int32_t>(text.size()));
  };
  int32_t length = apply();
  if (length > static_cast<int32_t>(text.size())) {
    text.resize(static_cast<size_t>(length));
    length = apply();
  }
  if (length < 0) {
    throw Error(
        ErrorCode::kUnsupported,
        fmt::format("{}: libllama does not know its 'tokenizer.chat_template'; format the prompt "
                    "yourself (raw)",
                    path));
  }
  text.resize(static_cast<size_t>(length));
  return text;
}

ChatText locate_contents(
    std::span<const std::string> contents,
    const std::function<std::string(const std::vector<std::string>& contents)>& render) {
  std::vector<std::string> stand_ins(contents.begin(), contents.end());
  for (size_t i = 0; i < stand_ins.size(); ++i) {
    if (trimmed(stand_ins[i]).empty()) continue;  // templates may leave out what is empty
    stand_ins[i] = kTrimmed + placeholder(i) + kTrimmed;
  }
  const std::string shape = render(stand_ins);
  std::vector<std::pair<size_t, size_t>> places;  // in `shape`, and of which message
  for (size_t i = 0; i < contents.size(); ++i) {
    const std::string mark = placeholder(i);
    for (size_t at = shape.find(mark); at != std::string::npos; at = shape.find(mark, at + 1)) {
      places.emplace_back(at, i);
    }
  }
  std::ranges::sort(places);
  ChatText chat;
  size_t read = 0;
  for (auto [at, i] : places) {
    size_t end = at + placeholder(i).size();
    std::string_view content = contents[i];
    if (at > read && shape[at - 1] == kTrimmed) {
      --at;
      ++end;
    } else {
      content = trimmed(content);
    }
    chat.text.append(shape, read, at - read);
    chat.contents.push_back({chat.text.size(), chat.text.size() + content.size()});
    chat.text += content;
    read = end;
  }
  chat.text.append(shape, read);
  return chat;
}

ChatText format_with_template(const char* chat_template, std::span<const ChatMessage> messages,
                              const std::string& path) {
  std::vector<std::string> contents;
  for (const ChatMessage& message : messages) contents.push_back(message.content);
  ChatText chat = locate_contents(contents, [&](const std::vector<std::string>& marks) {
    std::vector<ChatMessage> stand_ins(messages.begin(), messages.end());
    for (size_t i = 0; i < marks.size(); ++i) stand_ins[i].content = marks[i];
    return apply_template(chat_template, stand_ins, path);
  });
  if (chat.text == apply_template(chat_template, messages, path)) return chat;
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: its chat template changes what messages say, so that control tokens "
                          "in them cannot be told from its own; have all read as such "
                          "(parse_special)",
                          path));
}

}  // namespace restkv
