#include "server/service/requests.h"

#include <fmt/format.h>

#include <utility>

#include "server/http/http_error.h"
#include "server/service/reply.h"

namespace restkv::server {

namespace {

/// `how_many`: "12" or "at least 12".
void require_room(const Service& service, size_t tokens, const std::string& how_many,
                  const AnswerOptions& answer, const char* param) {
  if (service.session_of(answer.session).options.compact_positions) return;
  size_t before = 0;
  if (answer.document) {
    if (const auto info = service.scheduler.document(*answer.document)) before = info->tokens;
  }
  const size_t context = service.card.context;
  if (before + tokens <= context) return;
  throw HttpError(
      400,
      fmt::format("the prompt has {} tokens{}, but this model's context holds {}; "
                  "shorten it, or use a model with a longer context",
                  how_many, before > 0 ? fmt::format(" behind a document of {}", before) : "",
                  context),
      {.param = param, .code = "context_length_exceeded"});
}

}  // namespace

void require_context(const Service& service, size_t tokens, const AnswerOptions& answer,
                     const char* param) {
  require_room(service, tokens, fmt::to_string(tokens), answer, param);
}

void require_least_context(const Service& service, size_t least, const AnswerOptions& answer,
                           const char* param) {
  require_room(service, least, fmt::format("at least {}", least), answer, param);
}

void require_context(const Service& service, std::string_view text, const AnswerOptions& answer,
                     const char* param) {
  require_least_context(service, service.tokenizer.least_tokens(text), answer, param);
}

Request request_of(const Service& service, const AnswerOptions& answer,
                   std::vector<int32_t> tokens) {
  if (answer.document && !service.scheduler.document(*answer.document)) {
    throw HttpError(
        404,
        fmt::format("there is no document '{}'; GET /v1/documents lists them", *answer.document),
        {.param = "document", .code = "document_not_found"});
  }
  Request request;
  if (answer.session) {
    request.session = session_for(*answer.session, tokens.size(), service.options.limits);
  }
  request.prompt = std::move(tokens);
  request.document = answer.document;
  request.generation = answer.generation;
  if (!answer.has_seed && !service.options.fixed_seed) {
    request.generation.sampling.seed = AnswerIds::random_seed();
  }
  request.n = answer.n;
  return request;
}

void constrain(const Service& service, Request& request, const GrammarOptions& grammar) {
  request.constraint = [&tokenizer = service.tokenizer, grammar] {
    return make_grammar(tokenizer, grammar);
  };
}

AnswerStamp stamp_of(const Service& service, std::string_view id_prefix) {
  return {.id = AnswerIds::make(id_prefix), .created = unix_seconds(), .model = service.card.id};
}

void submit(Service& service, const AnswerStamp& stamp, std::vector<Request> requests,
            std::unique_ptr<AnswerWriter> writer, bool stream, Responder responder) {
  const auto reply = std::make_shared<Reply>(service.scheduler, std::move(responder),
                                             std::move(writer), stream, service.options.error_log);
  const RequestId first = reply->submit(std::move(requests));
  service.ids.remember(stamp.id, first);
}

}  // namespace restkv::server
