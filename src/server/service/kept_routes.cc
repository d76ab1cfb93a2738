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

/// What was counted on the engine thread becomes text on another: a long document has megabytes of
/// it, for which nobody's answer should wait.
HearsKept answer_with(const Tokenizer& tokenizer, const Workers::Later& later, Responder responder,
                      const char* if_none) {
  return [&tokenizer, later, responder = std::move(responder),
          if_none](std::optional<KeptTokens> kept) mutable {
    if (!kept) return responder.send_error(HttpError(404, if_none));
    later(std::move(responder), [&tokenizer, kept = *std::move(kept)](Responder& answer) {
      answer.send_json(200, kept_json(kept, tokenizer).dump());
    });
  };
}

}  // namespace

void add_kept_routes(RouteAdder& routes) {
  routes.get("/v1/documents/{id}/kept", [later = routes.later()](Service& service,
                                                                 const HttpRequest& http,
                                                                 Responder responder) {
    service.scheduler.kept(http.parameter("id"),
                           answer_with(service.tokenizer, later, std::move(responder),
                                       "there is no document of this id that has been read; GET "
                                       "/v1/documents lists them"));
  });
  routes.get("/v1/sequences/{id}/kept", [later = routes.later()](Service& service,
                                                                 const HttpRequest& http,
                                                                 Responder responder) {
    constexpr const char* kNone =
        "there is no answer of this id in memory; sequences leave it when others need the room or "
        "go on with them";
    const auto request = service.ids.find(http.parameter("id"));
    if (!request) throw HttpError(404, kNone);
    service.scheduler.kept(*request, 0,
                           answer_with(service.tokenizer, later, std::move(responder), kNone));
  });
}

}  // namespace restkv::server
