#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "server/http/message.h"
#include "server/http/responder.h"

namespace restkv::server {

/// Runs on a network thread and must not block: long work takes the responder elsewhere. May throw
/// `HttpError`; anything else becomes a 500 that does not say what happened.
using Handler = std::function<void(HttpRequest request, Responder responder)>;

/// Who may call a route.
enum class Access {
  kWithKey,  ///< Those who have one of `ServerOptions::api_keys`, if there are any.
  kOpen,     ///< Everybody.
};

/// Finds the handler for a method and a path.
class Router {
 public:
  /// `pattern`: "/v1/models/{id}". A name in braces stands for one segment; "{id...}" at the end
  /// for the rest of the path, one segment or more. Where several patterns fit, the first one
  /// added counts. GET also answers HEAD. Throws `Error` (kInvalidArgument) for a pattern that is
  /// none, or that stands there with this method already.
  void add(std::string method, std::string_view pattern, Handler handler,
           Access access = Access::kWithKey);

  struct Match {
    const Handler* handler = nullptr;  ///< Null: none for this method.
    Access access = Access::kWithKey;
    Fields parameters;
    std::string allow;  ///< Methods that the path has, "GET, HEAD, OPTIONS"; empty: no such path.
  };
  /// `segments` of the path, decoded.
  [[nodiscard]] Match find(std::string_view method, const std::vector<std::string>& segments) const;

 private:
  struct Route {
    std::string method;
    std::vector<std::string> pattern;
    Handler handler;
    Access access;
  };
  std::vector<Route> routes_;
};

}  // namespace restkv::server
