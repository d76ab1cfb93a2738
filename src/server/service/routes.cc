#include "server/service/routes.h"

#include <utility>

#include "server/http/http_error.h"
#include "server/page/page.h"

namespace restkv::server {

RouteAdder::RouteAdder(Router& router, Workers& workers, const ServiceSlot& slot,
                       std::function<void(const std::string&)> error_log)
    : router_(router), workers_(workers), slot_(slot), error_log_(std::move(error_log)) {}

void RouteAdder::add(std::string_view method, std::string_view pattern, ServiceHandler handler,
                     Access access) {
  const auto with_service = [&slot = slot_, handler = std::move(handler)](
                                const HttpRequest& request, Responder responder) {
    const std::shared_ptr<Service> service = slot.get();
    if (service == nullptr) {
      throw HttpError(503, "loading model", {.code = "loading_model", .retry_after = 1});
    }
    handler(*service, request, std::move(responder));
  };
  router_.add(std::string(method), pattern, workers_.on_workers(with_service, error_log_), access);
}

Router make_routes(Workers& workers, Workers& uploads, const ServiceSlot& slot,
                   const std::function<void(const std::string&)>& error_log) {
  Router router;
  const Handler health = [&slot](const HttpRequest&, Responder responder) {
    const bool ready = slot.get() != nullptr;
    responder.send_json(ready ? 200 : 503,
                        ready ? R"({"status":"ok"})" : R"({"status":"loading model"})");
  };
  router.add("GET", "/health", health, Access::kOpen);
  router.add("GET", "/v1/health", health, Access::kOpen);
  // The page holds nothing secret; what it asks for needs the key.
  router.add(
      "GET", "/",
      [](const HttpRequest&, Responder responder) {
        responder.send(200,
                       {{"Content-Type", "text/html; charset=utf-8"},
                        {"Content-Security-Policy", std::string(page_policy())},
                        {"X-Content-Type-Options", "nosniff"},
                        {"Referrer-Policy", "no-referrer"},
                        {"Cache-Control", "no-cache"}},
                       page_html());
      },
      Access::kOpen);
  RouteAdder routes(router, workers, slot, error_log);
  add_chat_routes(routes);
  add_completion_routes(routes);
  add_text_routes(routes);
  RouteAdder slow_routes(router, uploads, slot, error_log);
  add_document_routes(routes, slow_routes);
  add_kept_routes(routes);
  add_status_routes(routes);
  return router;
}

}  // namespace restkv::server
