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

ChatText format_with_template(const char* chat_template, std::span<const ChatMessage> messages,
                              const std::string& path) {
  // The template is applied again with a placeholder for each content. It shows the place of the
  // content and, by the white space around it, whether the template trims it.
  std::vector<ChatMessage> stand_ins(messages.begin(), messages.end());
  for (size_t i = 0; i < stand_ins.size(); ++i) {
    if (trimmed(stand_ins[i].content).empty()) continue;  // templates may leave out what is empty
    stand_ins[i].content = kTrimmed + placeholder(i) + kTrimmed;
  }
  const std::string shape = apply_template(chat_template, stand_ins, path);
  ChatText chat;
  std::vector<std::pair<size_t, size_t>> places;  // in `shape`, and of which message
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string mark = placeholder(i);
    for (size_t at = shape.find(mark); at != std::string::npos; at = shape.find(mark, at + 1)) {
      places.emplace_back(at, i);
    }
  }
  size_t read = 0;
  std::ranges::sort(places);
  for (auto [at, i] : places) {
    size_t end = at + placeholder(i).size();
    std::string_view content = messages[i].content;
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
  if (chat.text == apply_template(chat_template, messages, path)) return chat;
  throw Error(ErrorCode::kUnsupported,
              fmt::format("{}: its chat template changes what messages say, so that control tokens "
                          "in them cannot be told from its own; have all read as such "
                          "(parse_special)",
                          path));
}

}  // namespace restkv
