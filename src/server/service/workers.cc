#include "server/service/workers.h"

#include <boost/asio/post.hpp>
#include <boost/asio/thread_pool.hpp>
#include <exception>
#include <string>
#include <utility>

#include "base/memory.h"
#include "restkv/error.h"
#include "server/http/http_error.h"
#include "server/scheduler/request.h"
#include "server/service/refusals.h"

namespace restkv::server {
namespace {

/// What was made of larger bodies is worth giving back: as JSON they take many times their length.
constexpr size_t kLargeBody = size_t{1} << 20U;

/// `work`; what it throws is the answer.
void answer(Responder& responder, const ErrorLog& error_log, const auto& work) {
  try {
    work();
  } catch (...) {
    responder.send_error(refusal_of(std::current_exception(), error_log));
  }
}

}  // namespace

struct Workers::Impl {
  explicit Impl(size_t threads) : pool(threads) {}
  boost::asio::thread_pool pool;
};

Workers::Workers(size_t threads) : impl_(std::make_shared<Impl>(threads)) {}

Workers::~Workers() {
  impl_->pool.stop();
  impl_->pool.join();
}

Handler Workers::on_workers(Handler handler, ErrorLog error_log) {
  return [this, handler = std::move(handler), error_log = std::move(error_log)](
             HttpRequest request, Responder responder) {
    boost::asio::post(impl_->pool, [handler, error_log, request = std::move(request),
                                    responder = std::move(responder)]() mutable {
      Responder refused = responder;
      const size_t bytes = request.body.size();
      answer(refused, error_log, [&] { handler(std::move(request), std::move(responder)); });
      if (bytes >= kLargeBody) return_free_memory();
    });
  };
}

Workers::Later Workers::later(ErrorLog error_log) {
  return [weak = std::weak_ptr(impl_), error_log = std::move(error_log)](
             Responder responder, std::function<void(Responder&)> rest) {
    const std::shared_ptr<Impl> impl = weak.lock();
    if (impl == nullptr) return;
    boost::asio::post(impl->pool, [error_log, responder = std::move(responder),
                                   rest = std::move(rest)]() mutable {
      answer(responder, error_log, [&] { rest(responder); });
    });
  };
}

}  // namespace restkv::server
