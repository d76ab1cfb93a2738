// Texts and tokens, without an answer.
#include <fmt/format.h>

#include "server/http/http_error.h"
#include "server/openai/field_reader.h"
#include "server/openai/listings.h"
#include "server/openai/text_requests.h"
#include "server/service/routes.h"

namespace restkv::server {
namespace {

/// It takes a worker thread some seconds.
constexpr size_t kMostBytes = size_t{8} << 20;
/// With the piece of each token the answer is some thirty times as long as the text.
constexpr size_t kMostBytesInPieces = size_t{1} << 20;

void tokenize(Service& service, const HttpRequest& http, Responder responder) {
  const TokenizeRequest request = parse_tokenize_request(parse_body(http.body));
  const size_t most = request.with_pieces ? kMostBytesInPieces : kMostBytes;
  if (request.text.size() > most) {
    throw HttpError(
        413, fmt::format("the text has {} bytes; this route takes up to {}{}. Send it in parts",
                         request.text.size(), most, request.with_pieces ? " with pieces" : ""));
  }
  const std::vector<int32_t> tokens =
      service.tokenizer.encode(request.text, request.add_special, request.parse_special);
  std::function<std::string(int32_t)> piece_of;
  if (request.with_pieces) {
    piece_of = [&](int32_t token) { return service.tokenizer.piece(token, true); };
  }
  responder.send_json(200, tokens_json(tokens, piece_of, service.card.context));
}

void detokenize(Service& service, const HttpRequest& http, Responder responder) {
  const std::vector<int32_t> tokens =
      parse_detokenize_request(parse_body(http.body), service.options.limits);
  // A token may end within a character.
  const std::string text = Utf8Stream().push(service.tokenizer.decode(tokens, true));
  responder.send_json(200, detokenized_json(text).dump());
}

}  // namespace

void add_text_routes(RouteAdder& routes) {
  routes.post("/tokenize", tokenize);
  routes.post("/detokenize", detokenize);
  routes.get("/tokenizer_info", [](Service& service, const HttpRequest&, Responder responder) {
    responder.send_json(200, tokenizer_info_json(service.properties).dump());
  });
}

}  // namespace restkv::server
