// Which tokens a document or an answer's sequence still holds, for people to look at.
#include <utility>

#include "server/http/http_error.h"
#include "server/service/routes.h"

namespace restkv::server {
namespace {

/// {"object": "kept", "layers", "heads", "tokens", "kept"}. A token that ends within a character
/// shows nothing; the one that completes it shows the character.
Json kept_json(const KeptTokens& kept, const Tokenizer& tokenizer) {
  Utf8Stream characters;
  Json tokens = Json::array();
  for (const int32_t token : kept.tokens) {
    tokens.push_back(characters.push(tokenizer.piece(token, true)));
  }
  Json counts = Json::array();
  for (const uint32_t count : kept.kept) counts.push_back(count);
  return Json::object({{"object", "kept"},
                       {"layers", kept.layers},
                       {"heads", kept.heads},
                       {"tokens", std::move(tokens)},
                       {"kept", std::move(counts)}});
}

/// Called on the engine thread. The text of a long document takes a moment there, between two
/// steps.
HearsKept answer_with(const Service& service, Responder responder, const char* if_none) {
  return [&service, responder = std::move(responder),
          if_none](std::optional<KeptTokens> kept) mutable {
    if (!kept) return responder.send_error(HttpError(404, if_none));
    responder.send_json(200, kept_json(*kept, service.tokenizer).dump());
  };
}

void kept_of_document(Service& service, const HttpRequest& http, Responder responder) {
  service.scheduler.kept(http.parameter("id"),
                         answer_with(service, std::move(responder),
                                     "there is no document of this id that has been read; GET "
                                     "/v1/documents lists them"));
}

void kept_of_answer(Service& service, const HttpRequest& http, Responder responder) {
  const auto request = service.ids.find(http.parameter("id"));
  constexpr const char* kNone =
      "there is no answer of this id in memory; sequences leave it when others need the room or "
      "go on with them";
  if (!request) throw HttpError(404, kNone);
  service.scheduler.kept(*request, 0, answer_with(service, std::move(responder), kNone));
}

}  // namespace

void add_kept_routes(RouteAdder& routes) {
  routes.get("/v1/documents/{id}/kept", kept_of_document);
  routes.get("/v1/sequences/{id}/kept", kept_of_answer);
}

}  // namespace restkv::server
