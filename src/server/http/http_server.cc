#include "server/http/http_server.h"

#include <fmt/format.h>

#include <algorithm>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <csignal>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>

#include "restkv/error.h"
#include "server/http/connection.h"
#include "server/http/listen.h"

namespace restkv::server {
namespace {

using boost::asio::ip::tcp;
using boost::system::error_code;
using std::chrono::milliseconds;

/// Connections beyond the limit that are told so at a time; more are closed without a word.
constexpr size_t kMostRefusals = 64;
/// New connections before the others have their turn.
constexpr int kAcceptsAtATime = 64;
/// Before the next try when the process has no descriptor left.
constexpr milliseconds kNoDescriptor{100};

void check(const ServerOptions& options) {
  const auto require = [](bool fine, const char* name, const char* must) {
    if (!fine) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("the server's {} must be {}", name, must));
    }
  };
  require(options.connections > 0, "number of connections", "above 0");
  require(options.header_limit >= 1024 && options.header_limit <= size_t{1} << 24, "header limit",
          "1 KiB to 16 MiB");
  require(options.stream_buffer > 0, "stream buffer", "above 0");
  for (const milliseconds time : {options.idle_timeout, options.header_timeout,
                                  options.body_timeout, options.write_timeout}) {
    require(time > milliseconds(0) && time <= std::chrono::hours(24 * 365), "times",
            "above 0 and not longer than a year");
  }
}

/// Signals are for the program's own threads.
class WithoutSignals {
 public:
  WithoutSignals() {
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~WithoutSignals() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  WithoutSignals(const WithoutSignals&) = delete;
  WithoutSignals& operator=(const WithoutSignals&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

class HttpServer::Impl {
 public:
  Impl(ServerOptions options, Router router, Listening listening)
      : port_(listening.port),
        url_("http://" + address_text(options.host, port_)),
        network_(
            std::make_shared<Network>(std::move(options), std::move(router), listening.loopback)),
        acceptor_(network_->io, listening.ipv6 ? tcp::v6() : tcp::v4(), listening.socket.release()),
        timer_(network_->io) {
    acceptor_.non_blocking(true);
    accept_later();
    const WithoutSignals guard;
    thread_ = std::thread([this] { run(); });
  }

  void stop(milliseconds grace) {
    const std::scoped_lock lock(stop_mutex_);
    if (!thread_.joinable()) return;
    boost::asio::post(network_->io, [this, grace] { begin_stop(grace); });
    thread_.join();
  }

  [[nodiscard]] uint16_t port() const { return port_; }
  [[nodiscard]] const std::string& url() const { return url_; }
  [[nodiscard]] size_t connections() const { return network_->open; }

 private:
  void run() {
    for (;;) {
      try {
        network_->io.run();
        return;
      } catch (const std::exception& e) {
        if (network_->options.error_log) network_->options.error_log(e.what());
      }
    }
  }

  void accept_later() {
    acceptor_.async_wait(tcp::acceptor::wait_read, [this](const error_code& error) {
      if (!error) accept_some();
    });
  }

  void accept_some() {
    for (int i = 0; i < kAcceptsAtATime; ++i) {
      error_code error;
      tcp::socket socket = acceptor_.accept(error);
      if (error == boost::asio::error::connection_aborted) continue;
      if (error == boost::asio::error::would_block) break;
      if (error) return accept_after_a_while();
      add(std::move(socket));
    }
    accept_later();
  }

  /// A connection that cannot be accepted keeps the acceptor ready: waiting for it would not wait.
  void accept_after_a_while() {
    timer_.expires_after(kNoDescriptor);
    timer_.async_wait([this](const error_code& error) {
      if (!error && !network_->stopping) accept_some();
    });
  }

  void add(tcp::socket socket) {
    const size_t limit = network_->options.connections;
    const size_t open = network_->open;
    if (open >= limit + kMostRefusals) return;
    const auto connection = std::make_shared<Connection>(network_, std::move(socket));
    if (open >= limit) {
      connection->start_full();
    } else {
      connection->start();
    }
  }

  void begin_stop(milliseconds grace) {
    network_->stopping = true;
    error_code ignored;
    (void)acceptor_.close(ignored);
    network_->on_closed = [this] {
      if (network_->connections.empty()) timer_.cancel();
    };
    for_each_connection([](Connection& connection) { connection.finish_up(); });
    if (network_->connections.empty()) {
      timer_.cancel();
      return;
    }
    timer_.expires_after(std::clamp(grace, milliseconds(0), milliseconds(std::chrono::hours(24))));
    timer_.async_wait([this](const error_code&) {
      for_each_connection([](Connection& connection) { connection.close(); });
    });
  }

  /// Connections may leave the set meanwhile.
  template <class Do>
  void for_each_connection(Do act) {
    const auto all = network_->connections;
    for (const auto& connection : all) act(*connection);
  }

  uint16_t port_;
  std::string url_;
  std::shared_ptr<Network> network_;
  tcp::acceptor acceptor_;
  boost::asio::steady_timer timer_;
  std::mutex stop_mutex_;
  std::thread thread_;
};

HttpServer::HttpServer(ServerOptions options, Router router) {
  check(options);
  Listening listening = listen_at(options.host, options.port);
  impl_ = std::make_unique<Impl>(std::move(options), std::move(router), std::move(listening));
}

HttpServer::~HttpServer() { stop(milliseconds(0)); }

uint16_t HttpServer::port() const { return impl_->port(); }
std::string HttpServer::url() const { return impl_->url(); }
size_t HttpServer::connections() const { return impl_->connections(); }
void HttpServer::stop(milliseconds grace) { impl_->stop(grace); }

}  // namespace restkv::server
