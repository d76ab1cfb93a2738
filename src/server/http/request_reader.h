#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

#include "server/http/message.h"
#include "server/http/target.h"

namespace restkv::server {

/// The first line and the header of a request.
struct RequestHead {
  std::string method;
  Target target;
  Headers headers;
  bool http_1_0 = false;
  bool keep_alive = true;         ///< Whether the client wants to send another one.
  bool expects_continue = false;  ///< It waits for "100 Continue" before it sends the body.
};

struct ReadLimits {
  size_t header;  ///< Bytes of the first line and the header.
  size_t body;    ///< Bytes.
};

/// Makes one request of bytes as they come; what comes out does not depend on how they are cut.
class RequestReader {
 public:
  explicit RequestReader(const ReadLimits& limits);
  RequestReader(const RequestReader&) = delete;
  RequestReader& operator=(const RequestReader&) = delete;
  ~RequestReader();

  /// Takes bytes from the front and returns how many; the others must be there again in the next
  /// call, with more behind them. Stops at the end of the header, and at that of the request.
  /// Throws `HttpError`, after which there is no way to go on: 400 for what is no HTTP, 413, 431,
  /// 501 and 505.
  size_t feed(std::string_view bytes);

  [[nodiscard]] bool has_head() const;
  [[nodiscard]] bool done() const;
  [[nodiscard]] RequestHead& head();  ///< When it is there.
  [[nodiscard]] std::string& body();  ///< What has come of it.

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace restkv::server
