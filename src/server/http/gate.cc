#include "server/http/gate.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "restkv/error.h"
#include "server/http/http_error.h"

namespace restkv::server {
namespace {

/// "[::1]:8080" -> "::1"; "localhost:8080" -> "localhost". Empty if it is no host.
std::string_view without_port(std::string_view host) {
  size_t end = std::min(host.find(':'), host.size());
  std::string_view name = host.substr(0, end);
  if (host.starts_with('[')) {
    end = host.find(']');
    if (end == std::string_view::npos) return {};
    name = host.substr(1, end - 1);
    ++end;
  }
  const std::string_view port = host.substr(end);
  const bool fine = port.empty() || (port[0] == ':' && port.find_first_not_of("0123456789", 1) ==
                                                           std::string_view::npos);
  return fine && name.find_first_of("@/\\ \t") == std::string_view::npos ? name
                                                                         : std::string_view{};
}

bool is_preflight(const RequestHead& head) {
  return head.method == "OPTIONS" && head.headers.find("Origin") != nullptr &&
         head.headers.find("Access-Control-Request-Method") != nullptr;
}

Handler answer_to_options(Headers headers) {
  return [headers = std::move(headers)](const HttpRequest&, Responder responder) {
    responder.send(204, headers, "");
  };
}

}  // namespace

Gate::Gate(const ServerOptions& options, const Router& router, bool loopback)
    : options_(options),
      router_(router),
      keys_(options.api_keys),
      any_origin_(std::ranges::count(options.cors_origins, "*") > 0) {
  for (const std::string& origin : options.cors_origins) {
    const bool fine = origin == "*" || origin.find("://") != std::string::npos;
    if (!fine || origin.ends_with('/') ||
        std::ranges::any_of(origin, [](char c) { return c <= ' ' || c > '~'; })) {
      throw Error(ErrorCode::kInvalidArgument,
                  fmt::format("the origin \"{}\" must be \"*\" or of the form "
                              "\"https://example.org\", without a path",
                              origin));
    }
  }
  if (loopback && options.check_host) {
    hosts_ = options.host_names;
    hosts_.insert(hosts_.end(), {"localhost", "127.0.0.1", "::1", options.host});
  }
}

void Gate::require_host(const RequestHead& head) const {
  const size_t count = head.headers.count("Host");
  if (count > 1 || (count == 0 && !head.http_1_0)) {
    throw HttpError(400, "the request must have one header field \"Host\"");
  }
  for (const std::string_view host :
       {head.headers.value("Host"), std::string_view(head.target.authority)}) {
    if (host.empty()) continue;
    const std::string_view name = without_port(host);
    if (name.empty()) throw HttpError(400, "the request's host is no host");
    const bool known = hosts_.empty() || std::ranges::any_of(hosts_, [&](const std::string& own) {
                         return same_but_case(own, name);
                       });
    if (!known) {
      throw HttpError(403,
                      "this server listens on a loopback address and does not answer under this "
                      "host name; use localhost, or let the operator allow the name",
                      {.code = "host_not_allowed"});
    }
  }
}

bool Gate::origin_allowed(const Headers& headers) const {
  const std::string* origin = headers.find("Origin");
  return origin != nullptr &&
         (any_origin_ || std::ranges::count(options_.cors_origins, *origin) > 0);
}

/// A browser sends some requests of any page without asking (forms, plain text). It tells where
/// they come from; a person who follows a link is welcome.
void Gate::require_own_page(const RequestHead& head) const {
  const std::string_view site = head.headers.value("Sec-Fetch-Site");
  if (site != "cross-site" && site != "same-site") return;
  const bool link = head.headers.value("Sec-Fetch-Mode") == "navigate" &&
                    (head.method == "GET" || head.method == "HEAD");
  if (link || origin_allowed(head.headers)) return;
  throw HttpError(403, "this server does not answer to pages of other origins",
                  {.code = "origin_not_allowed"});
}

Gate::Admitted Gate::admit(const RequestHead& head) const {
  require_host(head);
  require_own_page(head);
  if (head.target.path == "*" && head.method == "OPTIONS") return {answer_to_options({}), {}};

  Router::Match match = router_.find(head.method, head.target.segments);
  if (match.allow.empty() || head.target.path == "*") {
    throw HttpError(404, fmt::format("there is no {} {}", head.method, head.target.path),
                    {.code = "not_found"});
  }
  if (match.handler == nullptr && is_preflight(head) && origin_allowed(head.headers)) {
    Headers headers{{"Access-Control-Allow-Methods", match.allow},
                    {"Access-Control-Max-Age", "600"}};
    const std::string_view wanted = head.headers.value("Access-Control-Request-Headers");
    if (!wanted.empty()) headers.add("Access-Control-Allow-Headers", std::string(wanted));
    return {answer_to_options(std::move(headers)), {}};
  }
  if (match.handler == nullptr && head.method == "OPTIONS") {
    return {answer_to_options({{"Allow", match.allow}}), {}};
  }
  if (match.handler == nullptr) {
    throw HttpError(405,
                    fmt::format("{} has {}, not {}", head.target.path, match.allow, head.method),
                    {.code = "method_not_allowed", .headers = {{"Allow", match.allow}}});
  }
  if (match.access == Access::kWithKey && keys_.needed() && !keys_.allow(head.headers)) {
    throw HttpError(401,
                    R"(a valid API key is needed: "Authorization: Bearer KEY" or "x-api-key: KEY")",
                    {.code = "invalid_api_key", .headers = {{"WWW-Authenticate", "Bearer"}}});
  }
  const std::string_view coding = head.headers.value("Content-Encoding");
  if (!coding.empty() && !same_but_case(coding, "identity")) {
    throw HttpError(415, "the request's body must be sent as it is, without Content-Encoding",
                    {.headers = {{"Accept-Encoding", "identity"}}});
  }
  return {*match.handler, std::move(match.parameters)};
}

Fields Gate::answer_fields(const Headers& headers) const {
  if (options_.cors_origins.empty()) return {};
  if (any_origin_) return {{"Access-Control-Allow-Origin", "*"}};
  if (!origin_allowed(headers)) return {{"Vary", "Origin"}};
  return {{"Access-Control-Allow-Origin", *headers.find("Origin")}, {"Vary", "Origin"}};
}

}  // namespace restkv::server
