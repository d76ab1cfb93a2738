// What the server is and does.
#include <fmt/format.h>

#include <string>
#include <string_view>

#include "document/document.h"
#include "restkv/compress.h"
#include "server/http/http_error.h"
#include "server/openai/listings.h"
#include "server/service/document_cards.h"
#include "server/service/metrics.h"
#include "server/service/routes.h"

namespace restkv::server {
namespace {

void models(Service& service, const HttpRequest&, Responder responder) {
  responder.send_json(200, models_json({&service.card, 1}).dump());
}

const char* state_word(SlotInfo::State state) {
  switch (state) {
    case SlotInfo::State::kReading:
      return "reading";
    case SlotInfo::State::kWriting:
      return "writing";
    case SlotInfo::State::kDocument:
      return "document";
    case SlotInfo::State::kKept:
      break;
  }
  return "kept";
}

void slots(Service& service, const HttpRequest&, Responder responder) {
  std::vector<SlotState> list;
  for (const SlotInfo& slot : service.scheduler.status().slots) {
    const size_t read = std::min(slot.tokens, slot.prompt_tokens);
    list.push_back({.id = list.size(),
                    .state = state_word(slot.state),
                    .is_processing = slot.state == SlotInfo::State::kReading ||
                                     slot.state == SlotInfo::State::kWriting,
                    .prompt_tokens = slot.prompt_tokens,
                    .read_tokens = read,
                    .written_tokens = slot.tokens - read,
                    .kept = slot.kept,
                    .kv_bytes = slot.kv_bytes});
  }
  responder.send_json(200, slots_json(list).dump());
}

void props(Service& service, const HttpRequest&, Responder responder) {
  Json json = props_json(service.properties);
  const ModelConfig& config = service.model.config();
  const AskedSession& session = service.options.limits.session;
  const AskedSession& of_documents = service.options.document_session;
  Json methods = Json::array();
  // Those that requests may name.
  for (const Method& method : restkv::methods()) {
    const bool refused =
        method.needs_statistics || (method.name == "full" && !service.options.limits.full_cache);
    if (!refused) methods.push_back(method.name);
  }
  const auto options = [](const AskedSession& s) {
    const CompressionOptions& compression = s.options.compression;
    return Json::object({{"method", compression.method},
                         {"budget", s.share ? Json(s.share->text()) : budget_json(compression)}});
  };
  Json restkv = options(session);
  Json kinds = Json::array();
  for (const document::Kind kind : document::readable_kinds()) {
    kinds.push_back(std::string(document::kind_name(kind)));
  }
  restkv["documents"] = options(of_documents);
  restkv["documents"]["kinds"] = std::move(kinds);
  const int most = service.options.limits.max_budget;
  restkv["max_budget"] = most == RequestLimits().max_budget ? Json() : Json(most);
  restkv["methods"] = std::move(methods);
  restkv["kv_bytes_per_token"] = config.kv_bytes(1);
  restkv["layers"] = config.layers;
  restkv["heads"] = config.kv_heads;
  restkv["version"] = service.options.version;
  json["n_ctx"] = config.context_length;
  json["restkv"] = std::move(restkv);
  responder.send_json(200, json.dump());
}

}  // namespace

void add_status_routes(RouteAdder& routes) {
  for (const char* path : {"/v1/models", "/models"}) routes.get(path, models);
  routes.get("/v1/models/{id...}",
             [](Service& service, const HttpRequest& http, Responder responder) {
               service.require_model(http.parameter("id"));
               responder.send_json(200, model_json(service.card).dump());
             });
  routes.get("/props", props);
  routes.get("/slots", slots);
  routes.get("/metrics", [](Service& service, const HttpRequest&, Responder responder) {
    responder.send(200, {{"Content-Type", "text/plain; version=0.0.4; charset=utf-8"}},
                   metrics_text(service.scheduler.status()));
  });
}

}  // namespace restkv::server
