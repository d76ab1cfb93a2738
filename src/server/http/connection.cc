#include "server/http/connection.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/post.hpp>
#include <exception>
#include <utility>

#include "server/http/http_error.h"
#include "server/http/listen.h"
#include "server/http/request_id.h"

namespace restkv::server {
namespace {

using boost::system::error_code;
using std::chrono::milliseconds;

/// Bytes of further requests that are read while an answer is made.
constexpr size_t kReadAhead = 64 * 1024;
/// How long what a client still sends is thrown away.
constexpr milliseconds kLinger{2000};
/// Calls of `write_some` before other connections have their turn.
constexpr int kWritesAtATime = 16;

bool would_block(const error_code& error) {
  return error == boost::asio::error::would_block || error == boost::asio::error::try_again ||
         error == boost::asio::error::interrupted;
}

std::string peer_of(const Connection::Socket& socket) {
  error_code error;
  const auto endpoint = socket.remote_endpoint(error);
  return error ? "" : address_text(endpoint.address().to_string(), endpoint.port());
}

}  // namespace

Connection::Connection(const std::shared_ptr<Network>& network, Socket socket)
    : shared_network_(network),
      network_(*network),
      socket_(std::move(socket)),
      timer_(network->io),
      peer_(peer_of(socket_)) {
  error_code ignored;
  (void)socket_.non_blocking(true, ignored);
  (void)socket_.set_option(boost::asio::ip::tcp::no_delay(true), ignored);
  // A client that lost its power says nothing any more; the system asks after it from time to time.
  (void)socket_.set_option(boost::asio::socket_base::keep_alive(true), ignored);
  const int seconds = 60;
  setsockopt(socket_.native_handle(), IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
}

void Connection::start() {
  network_.connections.insert(shared_from_this());
  ++network_.open;
  last_moved_ = Clock::now();
  proceed();
}

void Connection::start_full() {
  began_ = Clock::now();
  refuse(HttpError(503, "too many connections; try again in a moment", {.retry_after = 1}));
  start();
}

void Connection::finish_up() {
  if (phase_ == Phase::kAnswering) {
    exchange_->end_connection();
  } else if (phase_ != Phase::kLingering) {
    close();
  }
}

void Connection::close() {
  if (phase_ == Phase::kClosed) return;
  const auto self = shared_from_this();
  if (phase_ == Phase::kBody || phase_ == Phase::kAnswering) log(true);
  phase_ = Phase::kClosed;
  body_.reset();
  error_code ignored;
  (void)socket_.close(ignored);
  timer_.cancel();
  network_.connections.erase(self);
  --network_.open;
  if (const auto exchange = std::exchange(exchange_, nullptr)) exchange->close();
  if (network_.on_closed) network_.on_closed();
}

// ---- Steps -------------------------------------------------------------------------------------

void Connection::proceed() {
  const auto self = shared_from_this();
  try {
    do_steps();
  } catch (const std::exception& e) {  // no memory, a log that throws: one client, not all
    if (network_.options.error_log) network_.options.error_log(e.what());
    close();
  }
}

void Connection::do_steps() {
  while (step()) {
  }
  if (phase_ == Phase::kClosed) return;
  wait_readable();
  update_deadline();
}

/// False if there is nothing to do before something happens.
bool Connection::step() {
  switch (phase_) {
    case Phase::kClosed:
      return false;
    case Phase::kAnswering:
      return write_step();
    case Phase::kLingering:
      break;
    default:
      if (read_step()) return true;
  }
  if (!end_of_input_) return false;
  if (phase_ == Phase::kIdle || phase_ == Phase::kLingering) {
    close();
    return false;
  }
  refuse(HttpError(400, "the request ended early"));
  return true;
}

bool Connection::read_step() {
  if (input_.empty()) return false;
  try {
    if (phase_ == Phase::kIdle) begin_request();
    const size_t used = reader_->feed(input_);
    input_.erase(0, used);
    if (phase_ == Phase::kHeader && reader_->has_head()) admit();
    if (phase_ == Phase::kBody) count_body();
    if (reader_->done()) dispatch();
    return used > 0;
  } catch (const HttpError& error) {
    refuse(error);
    return true;
  }
}

void Connection::begin_request() {
  phase_ = Phase::kHeader;
  began_ = Clock::now();
  answer_bytes_ = 0;
  reader_.emplace(ReadLimits{network_.options.header_limit, network_.options.body_limit});
}

void Connection::admit() {
  const RequestHead& head = reader_->head();
  method_ = head.method;
  path_ = head.target.path;
  id_ = request_id_of(head.headers);
  admitted_ = network_.gate.admit(head);
  phase_ = Phase::kBody;
  body_ = std::make_shared<BodyShare>(network_.bodies);
  body_began_ = last_moved_ = Clock::now();
  if (head.expects_continue && !reader_->done() && input_.empty()) {
    constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    error_code error;
    // All earlier answers are sent, so there is room for it.
    if (socket_.write_some(boost::asio::buffer(kContinue), error) != kContinue.size()) close();
  }
}

void Connection::count_body() {
  if (body_->resize(reader_->body().size()) <= network_.options.bodies_limit) return;
  throw HttpError(503, "too many large requests have come at once; try again in a moment",
                  {.retry_after = 1});
}

void Connection::dispatch() {
  if (phase_ == Phase::kClosed) return;
  RequestHead& head = reader_->head();
  HttpRequest request{.method = std::move(head.method),
                      .path = std::move(head.target.path),
                      .parameters = std::move(admitted_.parameters),
                      .query = std::move(head.target.query),
                      .headers = {},
                      .body = std::move(reader_->body()),
                      .body_share = std::move(body_),
                      .peer = peer_};
  begin_answer(head.keep_alive && !network_.stopping);
  request.headers = std::move(head.headers);
  call_handler(std::move(request));
  if (end_of_input_) exchange_->leave();
}

void Connection::call_handler(HttpRequest request) {
  const Handler handler = std::exchange(admitted_.handler, nullptr);
  Responder responder(exchange_);
  const auto fail = [&](const HttpError& error) {
    if (exchange_->status() == 0) {
      responder.send_error(error);
    } else {
      responder.give_up();
    }
  };
  try {
    handler(std::move(request), responder);
  } catch (const HttpError& error) {
    fail(error);
  } catch (const std::exception& error) {
    if (network_.options.error_log) {
      network_.options.error_log(fmt::format("{} {} {}: {}", id_, method_, path_, error.what()));
    }
    fail(HttpError(500, "an internal error; the server's log says more"));
  }
}

void Connection::refuse(const HttpError& error) {
  begin_answer(false);
  Responder(exchange_).send_error(error);
}

void Connection::begin_answer(bool keep_alive) {
  phase_ = Phase::kAnswering;
  body_.reset();
  const bool known = reader_ && reader_->has_head();
  Exchange::Form form{.http_1_0 = known && reader_->head().http_1_0,
                      .without_body = method_ == "HEAD",
                      .keep_alive = keep_alive,
                      .stream_buffer = network_.options.stream_buffer};
  if (known) form.fields = network_.gate.answer_fields(reader_->head().headers);
  if (id_.empty()) id_ = make_request_id();  // there is no header to look at
  form.fields.emplace_back(kRequestIdField, id_);
  // Handles of the answer may outlive both.
  exchange_ = std::make_shared<Exchange>(std::move(form),
                                         [weak = weak_from_this(), weak_network = shared_network_] {
                                           const auto network = weak_network.lock();
                                           if (!network) return;
                                           boost::asio::post(network->io, [weak] {
                                             if (const auto self = weak.lock()) self->proceed();
                                           });
                                         });
}

bool Connection::write_step() {
  for (int i = 0; i < kWritesAtATime; ++i) {
    if (exchange_->cut()) {
      close();
      return false;
    }
    if (sent_ == output_.size()) {
      sent_ = 0;
      const Exchange::Next next = exchange_->take(output_);
      if (next == Exchange::Next::kWait) return false;
      last_moved_ = Clock::now();
      if (next == Exchange::Next::kDone) {
        answer_done();
        return true;
      }
    }
    error_code error;
    const size_t count = socket_.write_some(
        boost::asio::buffer(output_.data() + sent_, output_.size() - sent_), error);
    if (would_block(error)) {
      wait_writable();
      return false;
    }
    if (error) {
      close();
      return false;
    }
    last_moved_ = Clock::now();
    sent_ += count;
    answer_bytes_ += count;
  }
  wait_writable();
  return false;
}

void Connection::answer_done() {
  log(false);
  const bool keep_alive = exchange_->keep_alive() && !network_.stopping;
  exchange_.reset();
  reader_.reset();
  output_ = {};
  method_.clear();
  path_.clear();
  id_.clear();
  last_moved_ = Clock::now();
  if (keep_alive) {
    phase_ = Phase::kIdle;
    return;
  }
  phase_ = Phase::kLingering;
  input_ = {};
  error_code ignored;
  (void)socket_.shutdown(Socket::shutdown_send, ignored);
}

void Connection::log(bool cut) {
  if (!network_.options.access_log) return;
  const int status = exchange_ ? exchange_->status() : 0;
  const std::chrono::duration<double> seconds = Clock::now() - began_;
  network_.options.access_log({.peer = peer_,
                               .method = method_,
                               .path = path_,
                               .id = id_,
                               .status = status == 0 ? 499 : status,
                               .bytes = answer_bytes_,
                               .seconds = seconds.count(),
                               .cut = cut});
}

// ---- Waiting -----------------------------------------------------------------------------------

void Connection::wait_readable() {
  if (waits_readable_ || end_of_input_) return;
  if (phase_ == Phase::kAnswering && input_.size() >= kReadAhead) return;
  waits_readable_ = true;
  socket_.async_wait(Socket::wait_read, [self = shared_from_this()](const error_code& error) {
    self->waits_readable_ = false;
    if (self->phase_ == Phase::kClosed) return;
    if (!error) self->read_some();
    self->proceed();
  });
}

void Connection::wait_writable() {
  if (waits_writable_) return;
  waits_writable_ = true;
  socket_.async_wait(Socket::wait_write, [self = shared_from_this()](const error_code&) {
    self->waits_writable_ = false;
    self->proceed();
  });
}

void Connection::read_some() {
  error_code error;
  const size_t count = socket_.read_some(boost::asio::buffer(network_.scratch), error);
  if (would_block(error)) return;
  if (error == boost::asio::error::eof) {
    end_of_input_ = true;
    last_moved_ = Clock::now();
    if (exchange_) exchange_->leave();
  } else if (error) {
    close();
  } else if (phase_ != Phase::kLingering) {
    input_.append(network_.scratch.data(), count);
    if (phase_ != Phase::kAnswering) last_moved_ = Clock::now();
  }
}

Connection::Clock::time_point Connection::deadline() const {
  const ServerOptions& options = network_.options;
  switch (phase_) {
    case Phase::kIdle:
      return last_moved_ + options.idle_timeout;
    case Phase::kHeader:
      return began_ + options.header_timeout;
    case Phase::kBody: {
      const auto rate = static_cast<double>(std::max<size_t>(options.body_rate, 1));
      const auto due = std::chrono::duration_cast<Clock::duration>(
          std::chrono::duration<double>(static_cast<double>(body_->bytes()) / rate));
      return std::min(last_moved_, body_began_ + due) + options.body_timeout;
    }
    case Phase::kAnswering:
      // Who has closed a half may still read, but an answer is not awaited for ever.
      return sent_ == output_.size() && !end_of_input_ ? Clock::time_point::max()
                                                       : last_moved_ + options.write_timeout;
    case Phase::kLingering:
      return last_moved_ + kLinger;
    case Phase::kClosed:
      break;
  }
  return Clock::time_point::max();
}

void Connection::update_deadline() {
  const Clock::time_point wanted = deadline();
  if (wanted == timer_.expiry()) return;
  timer_.expires_at(wanted);
  if (wanted == Clock::time_point::max()) return;
  timer_.async_wait([self = shared_from_this()](const error_code& error) {
    if (!error && self->phase_ != Phase::kClosed) self->on_deadline();
  });
}

void Connection::on_deadline() {
  if (Clock::now() < deadline()) return;  // it has moved while this was waiting for its turn
  if (phase_ == Phase::kHeader || phase_ == Phase::kBody) {
    refuse(HttpError(408, "the request came too slowly"));
    proceed();
  } else {
    close();
  }
}

}  // namespace restkv::server
