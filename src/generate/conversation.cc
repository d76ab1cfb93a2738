#include "restkv/conversation.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "base/json.h"
#include "base/text.h"
#include "generate/document_prompt.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Offset in `text` where it continues `read`, which ends with `answer`. Some templates trim
/// messages, so spaces around the answer are ignored.
std::optional<size_t> continuation(std::string_view text, std::string_view read,
                                   std::string_view answer) {
  if (text.starts_with(read)) return read.size();
  const std::string_view question = read.substr(0, read.size() - answer.size());
  if (!text.starts_with(question)) return std::nullopt;
  if (!text.substr(question.size()).starts_with(trimmed(answer))) return std::nullopt;
  return question.size() + trimmed(answer).size();
}

}  // namespace

Conversation::Conversation(const Tokenizer& tokenizer, const std::string& system,
                           bool parse_special)
    : tokenizer_(&tokenizer), parse_special_(parse_special) {
  if (!system.empty()) messages_.push_back({"system", system});
}

Conversation Conversation::plain_text(const Tokenizer& tokenizer, bool parse_special) {
  Conversation conversation(tokenizer, {}, parse_special);
  conversation.plain_text_ = true;
  return conversation;
}

Conversation Conversation::begun_anew() const {
  Conversation conversation = *this;
  const bool has_system = !messages_.empty() && messages_.front().role == "system";
  conversation.messages_.resize(has_system ? 1 : 0);
  conversation.read_.clear();
  conversation.opened_.clear();
  conversation.pending_.clear();
  return conversation;
}

RepeatPrompt Conversation::repeat_prompt() const {
  constexpr std::string_view kWhole = "Repeat the text above, word for word.";
  constexpr std::string_view kRest = "Repeat the text above, word for word, from these words on:";
  const auto tokens = [&](const ChatText& text, bool first = false) {
    return tokenizer_->encode(text, first);
  };
  if (plain_text_) {
    const auto said = [&](std::string_view words) {
      return tokenizer_->encode(fmt::format("\n\n{}", words), false, false);
    };
    return {.first = said(kWhole), .later = said(kRest), .answer = said(""), .prefix = {}};
  }
  std::vector<ChatMessage> messages = begun_anew().messages_;
  messages.push_back({"user", "text"});
  const ChatText asked = tokenizer_->format_chat(messages);
  RepeatPrompt prompt;
  prompt.prefix = tokens(asked.part(0, asked.contents.back().begin), true);

  // A turn after an empty answer, as `ask` would begin it; or what follows in the user's message,
  // if the template rewrites earlier turns.
  const auto turn = [&](std::string_view words, std::vector<int32_t>& question) {
    std::vector<ChatMessage> longer = messages;
    longer.push_back({"assistant", ""});
    longer.push_back({"user", std::string(words)});
    ChatText text = tokenizer_->format_chat(longer);
    size_t begin = asked.text.size();
    if (!text.text.starts_with(asked.text)) {
      longer = messages;
      longer.back().content = fmt::format("\n\n{}", words);
      text = tokenizer_->format_chat(longer);
      begin = text.contents.back().begin;
    }
    question = tokens(text.part(begin, text.contents.back().end));
    return tokens(text.part(text.contents.back().end));
  };
  prompt.answer = turn(kWhole, prompt.first);
  (void)turn(kRest, prompt.later);
  return prompt;
}

Conversation::Turn Conversation::ask(const std::string& text) {
  Turn turn{.tokens = pending_};
  const auto add = [&](const std::vector<int32_t>& tokens) {
    turn.tokens.insert(turn.tokens.end(), tokens.begin(), tokens.end());
  };
  // Nothing changes before all that may fail is done: something else can be asked then.
  if (plain_text_) {
    add(tokenizer_->encode(text, read_.empty(), parse_special_));
    read_ += text;
    pending_.clear();
    return turn;
  }
  const std::string answer = opened_.empty() ? last_answer() : std::string();
  require_no_zero_byte(text, "the user's message");
  std::vector<ChatMessage> messages = messages_;
  messages.push_back(
      {"user", opened_.empty() ? text : fmt::format("{}{}{}", opened_, kBehindDocument, text)});
  ChatText whole = tokenizer_->format_chat(messages, parse_special_);
  const auto added = continuation(whole.text, read_, answer);
  turn.from_the_start = !added;
  if (!added || read_.empty()) {
    turn.tokens = tokenizer_->encode(whole, true);
  } else {
    add(tokenizer_->encode(whole.part(*added), false));
  }
  messages_ = std::move(messages);
  read_ = std::move(whole.text);
  opened_.clear();
  pending_.clear();
  return turn;
}

std::string Conversation::last_answer() const {
  const bool has_one = !messages_.empty() && messages_.back().role == "assistant";
  return has_one ? messages_.back().content : std::string();
}

Conversation::Turn Conversation::read_document(const std::string& text) {
  if (plain_text_) {
    throw Error(ErrorCode::kInvalidArgument,
                "a text without turns has no message that a document could stand in");
  }
  require_no_zero_byte(text, "the document");
  const std::string document(trimmed(text));
  if (document.empty()) throw Error(ErrorCode::kInvalidArgument, "the document is empty");
  Turn turn{.tokens = pending_};
  const auto add = [&](const std::vector<int32_t>& tokens) {
    turn.tokens.insert(turn.tokens.end(), tokens.begin(), tokens.end());
  };
  if (!opened_.empty()) {
    const std::string more = std::string(kBehindDocument) + document;
    add(tokenizer_->encode(more, false, parse_special_));
    opened_ += more;
    read_ += more;
    return turn;
  }
  std::vector<ChatMessage> messages = messages_;
  messages.push_back({"user", std::string(kDocumentMark)});
  const ChatText before = document_frame(tokenizer_->format_chat(messages, parse_special_)).before;
  const auto added = continuation(before.text, read_, last_answer());
  turn.from_the_start = !added;
  if (!added || read_.empty()) {
    turn.tokens = tokenizer_->encode(before, true);
  } else {
    add(tokenizer_->encode(before.part(*added), false));
  }
  add(tokenizer_->encode(document, turn.tokens.empty(), parse_special_));
  read_ = before.text + document;
  opened_ = document;
  pending_.clear();
  return turn;
}

void Conversation::answer(std::string text, std::vector<int32_t> pending) {
  // Templates render messages as C strings; the cache holds the model's own tokens.
  for (size_t zero = 0; (zero = text.find('\0', zero)) != std::string::npos;) {
    text.replace(zero, 1, "\uFFFD");
  }
  read_ += text;
  if (!plain_text_) messages_.push_back({"assistant", std::move(text)});
  pending_ = std::move(pending);
}

std::string Conversation::to_json() const {
  Json messages = Json::array();
  for (const ChatMessage& m : messages_) {
    messages.push_back({{"role", m.role}, {"content", m.content}});
  }
  Json json{{"plain_text", plain_text_},
            {"parse_special", parse_special_},
            {"messages", messages},
            {"read", read_},
            {"unread", pending_}};
  if (!opened_.empty()) json["opened"] = opened_;
  return json.dump();  // a truncated answer may end within a character
}

void Conversation::from_json(const std::string& json) {
  try {
    const auto object = parse_json(json);
    std::vector<ChatMessage> messages;
    for (const auto& m : list_field(object, "messages")) {
      messages.push_back({text_field(m, "role"), text_field(m, "content")});
    }
    std::string read = text_field(object, "read");
    std::string opened = object.contains("opened") ? text_field(object, "opened") : "";
    if (!read.ends_with(opened)) {
      throw Error(ErrorCode::kInput, "its document contradicts its text");
    }
    const bool plain_text = bool_field(object, "plain_text");
    const bool parse_special = bool_field(object, "parse_special");
    std::vector<int32_t> pending;
    for (const auto& token : list_field(object, "unread")) {
      if (!token.is_number_integer()) {
        throw Error(ErrorCode::kInput, "field 'unread' must be a list of tokens");
      }
      pending.push_back(token.get<int32_t>());
    }
    if (opened.empty() && !messages.empty() && messages.back().role == "assistant" &&
        !read.ends_with(messages.back().content)) {
      throw Error(ErrorCode::kInput, "its answers contradict its text");
    }
    messages_ = std::move(messages);
    read_ = std::move(read);
    opened_ = std::move(opened);
    pending_ = std::move(pending);
    plain_text_ = plain_text;
    parse_special_ = parse_special;
  } catch (const Error& e) {
    throw Error(ErrorCode::kInput, fmt::format("holds no conversation: {}", e.what()));
  }
}

RepeatPrompt repeat_prompt(const Tokenizer& tokenizer) {
  return tokenizer.has_chat_template() ? Conversation(tokenizer).repeat_prompt()
                                       : Conversation::plain_text(tokenizer, false).repeat_prompt();
}

}  // namespace restkv
