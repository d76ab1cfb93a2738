#include "server/http/responder.h"

#include <fmt/format.h>

#include <stdexcept>
#include <string>
#include <utility>

#include "restkv/error.h"
#include "server/http/exchange.h"

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

}  // namespace

Responder::Responder(std::shared_ptr<Exchange> exchange) {
  Exchange* raw = exchange.get();
  // Counts the copies of this handle only, not the connection's own pointer.
  exchange_ = std::shared_ptr<Exchange>(
      raw, [owner = std::move(exchange)](Exchange* answer) { abandon(*answer); });
}

void Responder::send(int status, const Headers& headers, std::string_view body) {
  send_to(*exchange_, status, headers, body);
}

void Responder::send_to(Exchange& to, int status, const Headers& headers, std::string_view body) {
  require_fields(headers);
  std::function<void()> dropped;  // it may hold the last of something: destroyed without the lock
  {
    const std::scoped_lock lock(to.mutex_);
    to.begin(status);
    to.state_ = Exchange::State::kComplete;
    dropped = std::move(to.on_gone_);
    if (to.closed_) return;
    to.ready_ = to.head(status, headers, body.size(), false);
    if (to.has_body(status)) to.ready_ += body;
  }
  to.wake_();
}

void Responder::send_json(int status, std::string_view json) {
  send(status, {{"Content-Type", "application/json"}}, json);
}

void Responder::send_error(const HttpError& error) {
  send(error.status(), error.headers(), error.json());
}

void Responder::begin_stream(int status, const Headers& headers) {
  require_fields(headers);
  Exchange& to = *exchange_;
  {
    const std::scoped_lock lock(to.mutex_);
    to.begin(status);
    to.state_ = Exchange::State::kStreaming;
    if (to.closed_) return;
    to.in_chunks_ = !to.form_.http_1_0 && to.has_body(status);
    if (to.form_.http_1_0) to.keep_alive_ = false;
    to.ready_ = to.head(status, headers, 0, true);
  }
  to.wake_();
}

bool Responder::write(std::string_view piece) {
  Exchange& to = *exchange_;
  {
    const std::scoped_lock lock(to.mutex_);
    if (to.state_ != Exchange::State::kStreaming)
      throw std::logic_error("a piece without a stream");
    if (to.closed_ || to.cut_) return false;
    if (piece.empty() || !to.has_body(to.status_)) return !to.gone_;
    // One piece may be larger than the limit.
    if (!to.pieces_.empty() && to.pieces_.size() + piece.size() > to.form_.stream_buffer) {
      to.cut_ = true;
    } else {
      to.pieces_ += piece;
      // The connection knows of the one before.
      if (to.pieces_.size() > piece.size()) return !to.gone_;
    }
  }
  to.wake_();
  return !gone();
}

void Responder::end() {
  Exchange& to = *exchange_;
  std::function<void()> dropped;
  {
    const std::scoped_lock lock(to.mutex_);
    if (to.state_ != Exchange::State::kStreaming) throw std::logic_error("the end of no stream");
    to.state_ = Exchange::State::kComplete;
    to.last_chunk_due_ = to.in_chunks_;
    dropped = std::move(to.on_gone_);
  }
  to.wake_();
}

void Responder::give_up() { abandon(*exchange_); }

void Responder::abandon(Exchange& answer) {
  bool unanswered = false;
  {
    const std::scoped_lock lock(answer.mutex_);
    if (answer.state_ == Exchange::State::kComplete) return;
    unanswered = answer.state_ == Exchange::State::kWaiting && !answer.gone_;
    if (!unanswered) answer.cut_ = true;
  }
  if (!unanswered) return answer.wake_();
  const HttpError error(500, "the request was not answered");
  send_to(answer, 500, error.headers(), error.json());
}

bool Responder::gone() const {
  const std::scoped_lock lock(exchange_->mutex_);
  return exchange_->gone_ || exchange_->cut_;
}

void Responder::on_gone(std::function<void()> callback) {
  Exchange& of = *exchange_;
  std::function<void()> dropped;
  {
    const std::scoped_lock lock(of.mutex_);
    if (of.state_ == Exchange::State::kComplete) return;
    if (!of.gone_) {
      dropped = std::exchange(of.on_gone_, std::move(callback));
      return;
    }
  }
  if (callback) callback();
}

size_t Responder::waiting_bytes() const {
  const std::scoped_lock lock(exchange_->mutex_);
  return exchange_->pieces_.size();
}

}  // namespace restkv::server
