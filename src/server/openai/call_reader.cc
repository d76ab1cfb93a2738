#include "server/openai/call_reader.h"

#include <utility>

#include "base/text.h"

namespace restkv::server {
namespace {

bool is_space(char c) { return CallPattern::kSpace.find(c) != std::string_view::npos; }

bool begins_value(char c) {
  constexpr std::string_view kFirst = "{[\"-0123456789tfn";
  return kFirst.find(c) != std::string_view::npos;
}

}  // namespace

CallReader::CallReader(std::vector<std::string> names, CallPlace place)
    : names_(std::move(names)),
      pattern_(std::make_shared<const CallPattern>(names_)),
      place_(place),
      state_(place == CallPlace::kLaterLines ? State::kText : State::kMaybe) {}

ChatDelta CallReader::push(std::string_view text, const std::function<std::string()>& make_id) {
  ChatDelta delta;
  for (const char c : text) read(c, make_id, delta);
  return delta;
}

ChatDelta CallReader::end() {
  const bool only_space = trimmed(held_).empty();
  ChatDelta delta;
  if (!(only_space && state_ == State::kMaybe && calls_ > 0)) delta.content = held_;
  held_.clear();
  return delta;
}

void CallReader::read(char c, const std::function<std::string()>& make_id, ChatDelta& delta) {
  switch (state_) {
    case State::kMaybe:
      return read_maybe(c, make_id, delta);
    case State::kText:
      return read_text(c, delta);
    case State::kArguments:
      return read_argument(c, delta);
    case State::kClosing:
      if (is_space(c)) return;
      if (c == '}') {
        state_ = State::kMaybe;
        node_ = 0;
      } else {
        state_ = State::kText;
        read_text(c, delta);
      }
  }
}

void CallReader::read_maybe(char c, const std::function<std::string()>& make_id, ChatDelta& delta) {
  const CallPattern::Node& node = pattern_->nodes()[node_];
  if (node.skips_space && is_space(c)) {
    held_ += c;
    return;
  }
  if (node.is_end && begins_value(c)) {
    held_.clear();
    delta.calls.push_back({calls_++, make_id(), names_[tool_], ""});
    state_ = State::kArguments;
    return read_argument(c, delta);
  }
  if (const auto found = node.next.find(c); found != node.next.end()) {
    held_ += c;
    node_ = found->second;
    const CallPattern::Node& reached = pattern_->nodes()[node_];
    if (!reached.tools.empty()) tool_ = reached.tools.front();
    return;
  }
  const size_t certain = held_.find_last_not_of(CallPattern::kSpace) + 1;
  delta.content.append(held_, 0, certain);
  held_.erase(0, certain);
  state_ = State::kText;
  read_text(c, delta);
}

void CallReader::read_text(char c, ChatDelta& delta) {
  if (is_space(c)) {
    held_ += c;
    if (c != '\n' || place_ == CallPlace::kBeginning) return;
    state_ = State::kMaybe;
    node_ = 0;
    return;
  }
  delta.content += std::exchange(held_, {});
  delta.content += c;
}

void CallReader::read_argument(char c, ChatDelta& delta) {
  const bool ends_before =
      depth_ == 0 && !in_string_ && (is_space(c) || c == ',' || c == '}' || c == ']');
  if (ends_before) {
    state_ = State::kClosing;
    return read(c, nullptr, delta);
  }
  const size_t index = calls_ - 1;
  if (delta.calls.empty() || delta.calls.back().index != index) {
    delta.calls.push_back({index, "", "", ""});
  }
  delta.calls.back().arguments += c;
  bool is_closed = false;
  if (is_escaped_) {
    is_escaped_ = false;
  } else if (in_string_) {
    is_escaped_ = c == '\\';
    in_string_ = c != '"';
    is_closed = !in_string_;
  } else if (c == '"') {
    in_string_ = true;
  } else if (c == '{' || c == '[') {
    ++depth_;
  } else if (c == '}' || c == ']') {
    --depth_;
    is_closed = true;
  }
  if (is_closed && depth_ == 0) state_ = State::kClosing;
}

}  // namespace restkv::server
