#include "server/http/exchange.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <stdexcept>
#include <utility>

#include "restkv/error.h"
#include "server/http/http_error.h"

namespace restkv::server {
namespace {

bool is_token(std::string_view name) {
  return !name.empty() && name.find_first_not_of(
                              "!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
                              "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == std::string_view::npos;
}

/// A text that came from a client must not become a field of its own.
void require_fields(const Headers& headers) {
  for (const auto& [name, value] : headers) {
    if (!is_token(name) ||
        value.find_first_of(std::string_view("\r\n\0", 3)) != std::string::npos) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("the header field \"{}\" of an answer has a character that no header "
                              "can hold",
                              name));
    }
    for (const std::string_view framing : {"Content-Length", "Transfer-Encoding", "Connection"}) {
      if (same_but_case(name, framing)) {
        throw std::logic_error(fmt::format("{} is up to the connection", framing));
      }
    }
  }
}

bool never_has_body(int status) { return status < 200 || status == 204 || status == 304; }

std::string date() {
  const std::time_t now = std::time(nullptr);
  std::tm utc{};
  gmtime_r(&now, &utc);
  return fmt::format("{:%a, %d %b %Y %H:%M:%S} GMT", utc);
}

}  // namespace

Exchange::Exchange(Form form, std::function<void()> wake)
    : form_(std::move(form)), wake_(std::move(wake)), keep_alive_(form_.keep_alive) {}

std::string Exchange::head(int status, const Headers& headers, size_t body_bytes, bool stream) {
  std::string text =
      fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\n", status, reason_phrase(status), date());
  const auto add = [&](std::string_view name, std::string_view value) {
    fmt::format_to(std::back_inserter(text), "{}: {}\r\n", name, value);
  };
  const auto add_unless_there = [&](std::string_view name, std::string_view value) {
    if (headers.find(name) == nullptr) add(name, value);
  };
  for (const auto& [name, value] : headers) add(name, value);
  for (const auto& [name, value] : form_.fields) add_unless_there(name, value);
  add_unless_there("X-Content-Type-Options", "nosniff");
  if (stream) {
    add_unless_there("Cache-Control", "no-cache");
    add_unless_there("X-Accel-Buffering", "no");  // nginx would collect the pieces
    if (in_chunks_) add("Transfer-Encoding", "chunked");
  } else if (!never_has_body(status)) {
    add("Content-Length", fmt::format("{}", body_bytes));
  }
  if (!keep_alive_) {
    add("Connection", "close");
  } else if (form_.http_1_0) {
    add("Connection", "keep-alive");
  }
  return text + "\r\n";
}

void Exchange::begin(int status) {
  if (state_ != State::kWaiting) throw std::logic_error("a request is answered twice");
  status_ = status;
}

void Exchange::send(int status, const Headers& headers, std::string_view body) {
  require_fields(headers);
  std::function<void()> dropped;  // it may hold the last of something: destroyed without the lock
  {
    const std::scoped_lock lock(mutex_);
    begin(status);
    state_ = State::kComplete;
    dropped = std::move(on_gone_);
    if (closed_) return;
    ready_ = head(status, headers, body.size(), false);
    if (!form_.without_body && !never_has_body(status)) ready_ += body;
  }
  wake_();
}

void Exchange::begin_stream(int status, const Headers& headers) {
  require_fields(headers);
  {
    const std::scoped_lock lock(mutex_);
    begin(status);
    state_ = State::kStreaming;
    if (closed_) return;
    const bool has_body = !form_.without_body && !never_has_body(status);
    in_chunks_ = !form_.http_1_0 && has_body;
    if (form_.http_1_0) keep_alive_ = false;
    ready_ = head(status, headers, 0, true);
  }
  wake_();
}

bool Exchange::write(std::string_view piece) {
  {
    const std::scoped_lock lock(mutex_);
    if (state_ != State::kStreaming) throw std::logic_error("a piece without a stream");
    if (closed_ || cut_) return false;
    if (piece.empty() || form_.without_body || never_has_body(status_)) return !gone_;
    // One piece may be larger than the limit.
    if (!pieces_.empty() && pieces_.size() + piece.size() > form_.stream_buffer) {
      cut_ = true;
    } else {
      pieces_ += piece;
      if (pieces_.size() > piece.size()) return !gone_;  // the connection knows of the one before
    }
  }
  wake_();
  return !gone();
}

void Exchange::end() {
  std::function<void()> dropped;
  {
    const std::scoped_lock lock(mutex_);
    if (state_ != State::kStreaming) throw std::logic_error("the end of no stream");
    state_ = State::kComplete;
    last_chunk_due_ = in_chunks_;
    dropped = std::move(on_gone_);
  }
  wake_();
}

bool Exchange::gone() const {
  const std::scoped_lock lock(mutex_);
  return gone_ || cut_;
}

void Exchange::on_gone(std::function<void()> callback) {
  std::function<void()> dropped;
  {
    const std::scoped_lock lock(mutex_);
    if (state_ == State::kComplete) return;
    if (!gone_) {
      dropped = std::exchange(on_gone_, std::move(callback));
      return;
    }
  }
  if (callback) callback();
}

size_t Exchange::waiting_bytes() const {
  const std::scoped_lock lock(mutex_);
  return pieces_.size();
}

void Exchange::abandon() {
  bool unanswered = false;
  {
    const std::scoped_lock lock(mutex_);
    if (state_ == State::kComplete) return;
    unanswered = state_ == State::kWaiting && !gone_;
    if (!unanswered) cut_ = true;
  }
  if (!unanswered) return wake_();
  const HttpError error(500, "the request was not answered");
  send(500, error.headers(), error.json());
}

Exchange::Next Exchange::take(std::string& bytes) {
  const std::scoped_lock lock(mutex_);
  bytes = std::exchange(ready_, {});
  if (!pieces_.empty()) {
    if (in_chunks_) fmt::format_to(std::back_inserter(bytes), "{:x}\r\n", pieces_.size());
    bytes += pieces_;
    if (in_chunks_) bytes += "\r\n";
    pieces_.clear();
  }
  if (std::exchange(last_chunk_due_, false)) bytes += "0\r\n\r\n";
  if (!bytes.empty()) return Next::kBytes;
  return state_ == State::kComplete ? Next::kDone : Next::kWait;
}

bool Exchange::cut() const {
  const std::scoped_lock lock(mutex_);
  return cut_;
}

void Exchange::leave() {
  std::function<void()> callback;
  {
    const std::scoped_lock lock(mutex_);
    gone_ = true;
    callback = std::exchange(on_gone_, nullptr);
  }
  if (callback) callback();
}

void Exchange::close() {
  {
    const std::scoped_lock lock(mutex_);
    closed_ = true;
    ready_.clear();
    pieces_.clear();
  }
  leave();
}

void Exchange::end_connection() {
  const std::scoped_lock lock(mutex_);
  if (state_ == State::kWaiting) keep_alive_ = false;
}

bool Exchange::keep_alive() const {
  const std::scoped_lock lock(mutex_);
  return keep_alive_;
}

int Exchange::status() const {
  const std::scoped_lock lock(mutex_);
  return status_;
}

}  // namespace restkv::server
