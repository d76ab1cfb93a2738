#include "server/openai/reasoning.h"

#include <algorithm>
#include <utility>

#include "base/text.h"

namespace restkv::server {
namespace {

/// Bytes at the end of `text` that may be the beginning of `tag`.
size_t beginning_of(std::string_view tag, std::string_view text) {
  for (size_t n = std::min(tag.size() - 1, text.size()); n > 0; --n) {
    if (text.ends_with(tag.substr(0, n))) return n;
  }
  return 0;
}

size_t leading_space(std::string_view text) {
  return std::min(text.find_first_not_of(kAsciiSpace), text.size());
}

size_t without_trailing_space(std::string_view text) {
  return text.find_last_not_of(kAsciiSpace) + 1;
}

}  // namespace

ReasoningSplitter::ReasoningSplitter(bool begins_inside, std::string open, std::string close)
    : state_(begins_inside ? State::kInside : State::kBefore),
      open_(std::move(open)),
      close_(std::move(close)) {}

ReasoningSplitter::Parts ReasoningSplitter::push(std::string_view text) {
  pending_ += text;
  return advance(false);
}

ReasoningSplitter::Parts ReasoningSplitter::end() { return advance(true); }

ReasoningSplitter::Parts ReasoningSplitter::advance(bool is_end) {
  Parts parts;
  if (state_ == State::kBefore) {
    const size_t space = leading_space(pending_);
    const std::string_view rest = std::string_view(pending_).substr(space);
    if (rest.starts_with(open_)) {
      pending_.erase(0, space + open_.size());
      state_ = State::kInside;
    } else if (is_end || !open_.starts_with(rest)) {
      state_ = State::kAfter;
    }
  }
  if (state_ == State::kInside) {
    if (!has_reasoning_) pending_.erase(0, leading_space(pending_));
    const size_t close = pending_.find(close_);
    const bool closed = close != std::string::npos;
    size_t certain = closed ? close : pending_.size();
    if (!closed && !is_end) certain -= beginning_of(close_, pending_);
    // Space goes out with what follows it, if anything does.
    const size_t text = without_trailing_space(std::string_view(pending_).substr(0, certain));
    parts.reasoning = pending_.substr(0, text);
    has_reasoning_ = has_reasoning_ || text > 0;
    if (closed) {
      pending_.erase(0, close + close_.size());
      state_ = State::kBetween;
    } else if (is_end) {
      pending_.clear();
    } else {
      pending_.erase(0, text);
    }
  }
  if (state_ == State::kBetween) {
    pending_.erase(0, leading_space(pending_));
    if (!pending_.empty()) state_ = State::kAfter;
  }
  if (state_ == State::kAfter) parts.content = std::exchange(pending_, {});
  return parts;
}

ReasoningSplitter::Parts split_reasoning(std::string_view text, bool begins_inside) {
  ReasoningSplitter splitter(begins_inside);
  ReasoningSplitter::Parts first = splitter.push(text);
  const ReasoningSplitter::Parts rest = splitter.end();
  first.reasoning += rest.reasoning;
  first.content += rest.content;
  return first;
}

}  // namespace restkv::server
