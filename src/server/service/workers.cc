#include "server/service/workers.h"

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <exception>
#include <string>
#include <utility>

#include "restkv/error.h"
#include "server/http/http_error.h"
#include "server/scheduler/request.h"
#include "server/service/refusals.h"

namespace restkv::server {

struct Workers::Impl {
  explicit Impl(size_t threads) : pool(threads) {}
  boost::asio::thread_pool pool;
};

Workers::Workers(size_t threads) : impl_(std::make_unique<Impl>(threads)) {}

Workers::~Workers() {
  impl_->pool.stop();
  impl_->pool.join();
}

Handler Workers::on_workers(Handler handler, std::function<void(const std::string&)> error_log) {
  return [this, handler = std::move(handler), error_log = std::move(error_log)](
             HttpRequest request, Responder responder) {
    boost::asio::post(impl_->pool, [handler, error_log, request = std::move(request),
                                    responder = std::move(responder)]() mutable {
      Responder answer = responder;
      try {
        handler(std::move(request), std::move(responder));
      } catch (...) {
        answer.send_error(refusal_of(std::current_exception(), error_log));
      }
    });
  };
}

}  // namespace restkv::server
