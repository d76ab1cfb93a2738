#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "server/http/access_log.h"
#include "server/http/router.h"

namespace restkv::server {

struct ServerOptions {
  std::string host =
      "127.0.0.1";       ///< A name, an IPv4 address, or an IPv6 address without brackets.
  uint16_t port = 8080;  ///< 0: any that is free.

  size_t body_limit = size_t{64} << 20;  ///< Bytes of a request's body; beyond: 413.
  /// Bytes of all bodies that are being received, or whose requests live; beyond: 503.
  size_t bodies_limit = size_t{512} << 20;
  size_t header_limit = size_t{16} << 10;  ///< Bytes of a request's first line and header: 431.
  size_t connections = 1000;               ///< At a time; beyond: 503 with Retry-After.
  size_t stream_buffer = size_t{1} << 20;  ///< Bytes that may wait for one reader.

  std::chrono::milliseconds idle_timeout{60'000};    ///< Between two requests of a connection.
  std::chrono::milliseconds header_timeout{10'000};  ///< From its first byte to its last one: 408.
  std::chrono::milliseconds body_timeout{10'000};    ///< Without any byte of the body: 408.
  /// Bytes a second of a body, on average after the first `body_timeout`; below: 408.
  size_t body_rate = 1024;
  std::chrono::milliseconds write_timeout{30'000};  ///< Without the reader taking any byte: cut.

  /// Each request needs one of them, as `Authorization: Bearer KEY` or `x-api-key: KEY`, but those
  /// of open routes. Empty: none is needed.
  std::vector<std::string> api_keys;
  /// Pages that may call: "https://example.org"; "*": all. Empty: only the server's own.
  std::vector<std::string> cors_origins;
  /// Whether a server on a loopback address answers only requests for localhost, 127.0.0.1, [::1],
  /// `host` and `host_names`. Without it, any web page can give its own name this address (DNS
  /// rebinding) and read what is answered.
  bool check_host = true;
  std::vector<std::string> host_names;

  AccessLog access_log;
  /// Told what a 500 does not say: the exception of a handler. On a network thread.
  std::function<void(const std::string& message)> error_log;
};

/// HTTP/1.1 (and 1.0) over TCP: reads requests within limits, hands them to handlers, writes their
/// answers. One thread of its own does all of it.
class HttpServer {
 public:
  /// Listens when it returns. Throws `Error`: kInvalidArgument for options that cannot be used,
  /// kIo if the address cannot be bound, naming the address and the remedy.
  HttpServer(ServerOptions options, Router router);
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;
  /// `stop` without grace.
  ~HttpServer();

  [[nodiscard]] uint16_t port() const;       ///< The actual one.
  [[nodiscard]] std::string url() const;     ///< "http://127.0.0.1:8080"
  [[nodiscard]] size_t connections() const;  ///< Open now.

  /// Accepts no more, closes connections without a request, lets running answers finish within
  /// `grace`, cuts the others (their `on_gone` is called) and returns when the thread has ended.
  /// Not from a handler. Calling it again does nothing.
  void stop(std::chrono::milliseconds grace);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace restkv::server
