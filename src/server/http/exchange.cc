#include "server/http/exchange.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <ctime>
#include <stdexcept>
#include <string_view>
#include <utility>

#include "server/http/http_error.h"

namespace restkv::server {
namespace {

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

bool Exchange::has_body(int status) const { return !form_.without_body && !never_has_body(status); }

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
