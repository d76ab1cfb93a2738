#pragma once

#include "server/http/api_keys.h"
#include "server/http/http_server.h"
#include "server/http/request_reader.h"

namespace restkv::server {

/// Decides by its header alone who answers a request, before any byte of a body is read.
class Gate {
 public:
  /// `loopback`: whether the server's address is one. Both must outlive the gate. Throws `Error`
  /// (kInvalidArgument) for keys and origins that cannot be used.
  Gate(const ServerOptions& options, const Router& router, bool loopback);

  struct Admitted {
    Handler handler;
    Fields parameters;
  };
  /// Throws `HttpError`: 400, 401, 403, 404, 405, 415.
  [[nodiscard]] Admitted admit(const RequestHead& head) const;

  /// Fields that every answer to this request has, errors too: those of CORS.
  [[nodiscard]] Fields answer_fields(const Headers& headers) const;

 private:
  void require_host(const RequestHead& head) const;
  void require_own_page(const RequestHead& head) const;
  [[nodiscard]] bool origin_allowed(const Headers& headers) const;

  const ServerOptions& options_;
  const Router& router_;
  ApiKeys keys_;
  std::vector<std::string> hosts_;  ///< Empty: any.
  bool any_origin_;
};

}  // namespace restkv::server
