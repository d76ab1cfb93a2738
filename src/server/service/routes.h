#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "server/http/router.h"
#include "server/openai/chat_form.h"
#include "server/openai/chat_request.h"
#include "server/service/service.h"
#include "server/service/workers.h"

/// The routes of `restkv serve`. docs/server.md lists them.
namespace restkv::server {

/// Holds the service once its model is loaded. Until then, routes answer 503.
class ServiceSlot {
 public:
  void set(std::shared_ptr<Service> service) { service_.store(std::move(service)); }
  /// Null until then.
  [[nodiscard]] std::shared_ptr<Service> get() const { return service_.load(); }

 private:
  std::atomic<std::shared_ptr<Service>> service_;
};

using ServiceHandler =
    std::function<void(Service& service, const HttpRequest& request, Responder responder)>;

/// Adds routes that run on worker threads and need the model.
class RouteAdder {
 public:
  RouteAdder(Router& router, Workers& workers, const ServiceSlot& slot,
             std::function<void(const std::string&)> error_log);

  void add(std::string_view method, std::string_view pattern, ServiceHandler handler,
           Access access = Access::kWithKey);
  void get(std::string_view pattern, ServiceHandler handler) {
    add("GET", pattern, std::move(handler));
  }
  void post(std::string_view pattern, ServiceHandler handler) {
    add("POST", pattern, std::move(handler));
  }
  [[nodiscard]] Workers::Later later() { return workers_.later(error_log_); }

 private:
  Router& router_;
  Workers& workers_;
  const ServiceSlot& slot_;
  std::function<void(const std::string&)> error_log_;
};

/// All of them. `uploads`: who reads files, which may take long, so that all else need not wait for
/// it. The arguments must outlive the server.
Router make_routes(Workers& workers, Workers& uploads, const ServiceSlot& slot,
                   const std::function<void(const std::string&)>& error_log);

// One file each:
void add_chat_routes(RouteAdder& routes);
void add_completion_routes(RouteAdder& routes);
void add_text_routes(RouteAdder& routes);
void add_document_routes(RouteAdder& routes, RouteAdder& uploads);
void add_kept_routes(RouteAdder& routes);
void add_status_routes(RouteAdder& routes);

/// The form in which a chat's answer goes out.
using FormMaker = std::function<std::unique_ptr<ChatForm>(const AnswerStamp&, const ChatRequest&)>;
/// Answers a chat in this form.
void answer_chat(Service& service, const ChatRequest& request, const FormMaker& make_form,
                 std::string_view id_prefix, Responder responder);

}  // namespace restkv::server
