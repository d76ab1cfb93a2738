#include "server/http/responder.h"

#include <utility>

#include "server/http/exchange.h"

namespace restkv::server {

Responder::Responder(std::shared_ptr<Exchange> exchange) {
  Exchange* raw = exchange.get();
  // Counts the copies of this handle only, not the connection's own pointer.
  exchange_ = std::shared_ptr<Exchange>(
      raw, [owner = std::move(exchange)](Exchange* answer) { answer->abandon(); });
}

void Responder::send(int status, const Headers& headers, std::string_view body) {
  exchange_->send(status, headers, body);
}

void Responder::send_json(int status, std::string_view json) {
  send(status, {{"Content-Type", "application/json"}}, json);
}

void Responder::send_error(const HttpError& error) {
  send(error.status(), error.headers(), error.json());
}

void Responder::begin_stream(int status, const Headers& headers) {
  exchange_->begin_stream(status, headers);
}

bool Responder::write(std::string_view piece) { return exchange_->write(piece); }
void Responder::end() { exchange_->end(); }
bool Responder::gone() const { return exchange_->gone(); }

void Responder::on_gone(std::function<void()> callback) { exchange_->on_gone(std::move(callback)); }

size_t Responder::waiting_bytes() const { return exchange_->waiting_bytes(); }

}  // namespace restkv::server
