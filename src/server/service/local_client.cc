#include "server/service/local_client.h"

#include <future>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "server/http/exchange.h"
#include "server/http/http_error.h"
#include "server/http/target.h"

namespace restkv::server {
namespace {

/// Takes an answer from its exchange, as a connection does.
class Collector {
 public:
  explicit Collector(std::function<void(LocalAnswer)> hears) : hears_(std::move(hears)) {}

  void take(Exchange& exchange) {
    const std::scoped_lock lock(mutex_);
    if (!hears_) return;
    std::string bytes;
    Exchange::Next next = exchange.take(bytes);
    for (; next == Exchange::Next::kBytes; next = exchange.take(bytes)) text_ += bytes;
    if (next == Exchange::Next::kDone) finish(exchange.status());
    if (next == Exchange::Next::kWait && exchange.cut()) finish(500);
  }

 private:
  void finish(int status) {
    constexpr std::string_view kEndOfHeader = "\r\n\r\n";
    const size_t end = text_.find(kEndOfHeader);
    std::string body;
    if (end != std::string::npos) body = text_.substr(end + kEndOfHeader.size());
    std::exchange(hears_, nullptr)({status, std::move(body)});
  }

  std::mutex mutex_;
  std::string text_;
  std::function<void(LocalAnswer)> hears_;
};

}  // namespace

bool LocalClient::knows(std::string_view method, std::string_view path) const {
  try {
    return router_.find(method, parse_target(path).segments).handler != nullptr;
  } catch (const HttpError&) {  // it is no path
    return false;
  }
}

void LocalClient::send(std::string method, std::string path, std::string body,
                       std::function<void(LocalAnswer)> hears) const {
  const Router::Match match =
      knows(method, path) ? router_.find(method, parse_target(path).segments) : Router::Match();
  if (match.handler == nullptr) {
    hears({404, HttpError(404, "there is no route " + method + " " + path).json()});
    return;
  }
  const auto collector = std::make_shared<Collector>(std::move(hears));
  // The exchange calls what holds it: it must not hold itself.
  const auto place = std::make_shared<std::weak_ptr<Exchange>>();
  const auto exchange = std::make_shared<Exchange>(
      Exchange::Form{.keep_alive = false, .stream_buffer = size_t{64} << 20U}, [collector, place] {
        if (const auto there = place->lock()) collector->take(*there);
      });
  *place = exchange;
  Responder responder(exchange);
  try {
    (*match.handler)({.method = std::move(method),
                      .path = std::move(path),
                      .parameters = match.parameters,
                      .query = {},
                      .headers = {{"Content-Type", "application/json"}},
                      .body = std::move(body),
                      .peer = {}},
                     responder);
  } catch (const HttpError& error) {
    responder.send_error(error);
  }
}

LocalAnswer LocalClient::ask(std::string method, std::string path, std::string body) const {
  const auto promise = std::make_shared<std::promise<LocalAnswer>>();
  std::future<LocalAnswer> answer = promise->get_future();
  send(std::move(method), std::move(path), std::move(body),
       [promise](LocalAnswer got) { promise->set_value(std::move(got)); });
  return answer.get();
}

}  // namespace restkv::server
