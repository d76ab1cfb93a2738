#include "engine/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <string_view>
#include <utility>

#include "restkv/error.h"

namespace restkv {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = std::min(text.find_first_not_of(kSpace), text.size());
  text.remove_prefix(begin);
  text.remove_suffix(text.size() - (text.find_last_not_of(kSpace) + 1));
  return text;
}

/// What `text` says beyond `read`, which ends with `answer`. Some templates trim what was said:
/// spaces around the answer that the model wrote itself do not matter.
std::optional<std::string_view> continuation(std::string_view text, std::string_view read,
                                             std::string_view answer) {
  if (text.starts_with(read)) return text.substr(read.size());
  const std::string_view question = read.substr(0, read.size() - answer.size());
  if (!text.starts_with(question)) return std::nullopt;
  text.remove_prefix(question.size());
  if (!text.starts_with(trimmed(answer))) return std::nullopt;
  return text.substr(trimmed(answer).size());
}

}  // namespace

Conversation::Conversation(const Tokenizer& tokenizer, const std::string& system)
    : tokenizer_(&tokenizer) {
  if (!system.empty()) messages_.push_back({"system", system});
}

Conversation Conversation::plain_text(const Tokenizer& tokenizer, bool parse_special) {
  Conversation conversation(tokenizer);
  conversation.plain_text_ = true;
  conversation.parse_special_ = parse_special;
  return conversation;
}

Conversation::Turn Conversation::ask(const std::string& text) {
  if (plain_text_) {
    Turn turn{.tokens = std::exchange(unread_, {})};
    const std::vector<int32_t> tokens = tokenizer_->encode(text, read_.empty(), parse_special_);
    turn.tokens.insert(turn.tokens.end(), tokens.begin(), tokens.end());
    read_ += text;
    return turn;
  }
  const std::string answer =
      !messages_.empty() && messages_.back().role == "assistant" ? messages_.back().content : "";
  messages_.push_back({"user", text});
  std::string whole = tokenizer_->apply_chat_template(messages_);
  const auto added = continuation(whole, read_, answer);
  Turn turn;
  turn.from_the_start = !added;
  if (!added || read_.empty()) {
    turn.tokens = tokenizer_->encode(whole, true, true);
  } else {
    turn.tokens = std::exchange(unread_, {});
    const std::vector<int32_t> tokens = tokenizer_->encode(*added, false, true);
    turn.tokens.insert(turn.tokens.end(), tokens.begin(), tokens.end());
  }
  unread_.clear();
  read_ = std::move(whole);
  return turn;
}

void Conversation::answer(const std::string& text, std::vector<int32_t> unread) {
  if (!plain_text_) messages_.push_back({"assistant", text});
  read_ += text;
  unread_ = std::move(unread);
}

std::string Conversation::to_json() const {
  nlohmann::ordered_json messages = nlohmann::ordered_json::array();
  for (const ChatMessage& m : messages_) {
    messages.push_back({{"role", m.role}, {"content", m.content}});
  }
  // An answer that was cut off may end within a character.
  return nlohmann::ordered_json{{"plain_text", plain_text_},
                                {"parse_special", parse_special_},
                                {"messages", messages},
                                {"read", read_},
                                {"unread", unread_}}
      .dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

void Conversation::from_json(const std::string& json) {
  try {
    const auto object = nlohmann::json::parse(json);
    std::vector<ChatMessage> messages;
    for (const auto& m : object.at("messages")) {
      messages.push_back({m.at("role").get<std::string>(), m.at("content").get<std::string>()});
    }
    std::string read = object.at("read").get<std::string>();
    const bool plain_text = object.at("plain_text").get<bool>();
    const bool parse_special = object.at("parse_special").get<bool>();
    auto unread = object.at("unread").get<std::vector<int32_t>>();
    if (!messages.empty() && messages.back().role == "assistant" &&
        !read.ends_with(messages.back().content)) {
      throw Error(ErrorCode::kInput, "the conversation contradicts itself");
    }
    messages_ = std::move(messages);
    read_ = std::move(read);
    unread_ = std::move(unread);
    plain_text_ = plain_text;
    parse_special_ = parse_special;
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorCode::kInput, fmt::format("holds no conversation: {}", e.what()));
  }
}

}  // namespace restkv
