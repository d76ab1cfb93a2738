// Chats, in all forms that clients know.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "generate/document_prompt.h"
#include "generate/grammar.h"
#include "server/openai/anthropic_form.h"
#include "server/openai/anthropic_request.h"
#include "server/openai/chat_completion_form.h"
#include "server/openai/chat_format.h"
#include "server/openai/chat_request.h"
#include "server/openai/field_reader.h"
#include "server/openai/responses_form.h"
#include "server/openai/responses_request.h"
#include "server/service/chat_writer.h"
#include "server/service/document_prompt.h"
#include "server/service/refusals.h"
#include "server/service/reply.h"
#include "server/service/requests.h"
#include "server/service/routes.h"

namespace restkv::server {
namespace {

struct TokenizedChat {
  ChatPrompt prompt;
  std::vector<int32_t> tokens;
};

TokenizedChat tokenized(const Service& service, const Chat& chat, const AnswerOptions& answer) {
  const ChatFormat& format = service.chat();
  require_least_context(service, format.least_tokens(chat), answer, "messages");
  if (!answer.document) {
    ChatPrompt prompt = format.render(chat);
    std::vector<int32_t> tokens = service.tokenizer.encode(prompt.text, true);
    return {std::move(prompt), std::move(tokens)};
  }
  ChatPrompt prompt = format.render(chat_behind_document(chat));
  std::vector<int32_t> tokens = service.tokenizer.encode(document_frame(prompt.text).behind, false);
  return {std::move(prompt), std::move(tokens)};
}

}  // namespace

void answer_chat(Service& service, const ChatRequest& request, const FormMaker& make_form,
                 std::string_view id_prefix, Responder responder) {
  service.require_model(request.answer.model);
  TokenizedChat chat = tokenized(service, request.chat, request.answer);
  require_context(service, chat.tokens.size(), request.answer, "messages");
  Request asked = request_of(service, request.answer, std::move(chat.tokens));
  const std::vector<std::string> client_stops = asked.generation.stop;
  asked.generation.stop.insert(asked.generation.stop.end(), chat.prompt.stops.begin(),
                               chat.prompt.stops.end());
  asked.generation.written_tokens = chat.prompt.written_tokens;
  if (chat.prompt.grammar) constrain(service, asked, *chat.prompt.grammar);

  const AnswerStamp stamp = stamp_of(service, id_prefix);
  auto writer = std::make_unique<ChatWriter>(
      make_form(stamp, request), service.tokenizer, chat.prompt.syntax, asked.n, client_stops,
      [prefix = id_prefix == "msg_" ? "toolu_" : "call_"] { return AnswerIds::make(prefix); });
  submit(service, stamp, {std::move(asked)}, std::move(writer), request.answer.stream,
         std::move(responder));
}

namespace {

void answer_responses(Service& service, const HttpRequest& http, Responder responder) {
  ResponsesRequest request = parse_responses_request(parse_body(http.body), service.options.limits);
  const FormMaker make_form = [echo = std::move(request.echo)](const AnswerStamp& stamp,
                                                               const ChatRequest& asked) {
    return std::make_unique<ResponsesForm>(stamp, echo,
                                           asked.answer.generation.logprobs.has_value());
  };
  answer_chat(service, request.request, make_form, "resp_", std::move(responder));
}

/// Anthropic's clients look for refusals of another form.
ServiceHandler with_anthropic_errors(ServiceHandler handler) {
  return [handler = std::move(handler)](Service& service, const HttpRequest& http,
                                        Responder responder) {
    try {
      handler(service, http, responder);
    } catch (...) {
      const HttpError error = refusal_of(std::current_exception(), service.options.error_log);
      responder.send(error.status(), error.headers(), anthropic_error(error));
    }
  };
}

void answer_anthropic(Service& service, const HttpRequest& http, Responder responder) {
  answer_chat(
      service, parse_anthropic_request(parse_body(http.body), service.options.limits),
      [](const AnswerStamp& stamp, const ChatRequest&) {
        return std::make_unique<AnthropicForm>(stamp);
      },
      "msg_", std::move(responder));
}

void count_anthropic(Service& service, const HttpRequest& http, Responder responder) {
  const Chat chat = parse_anthropic_count(parse_body(http.body), service.options.limits);
  responder.send_json(
      200, anthropic_count_json(tokenized(service, chat, AnswerOptions()).tokens.size()).dump());
}

}  // namespace

void add_chat_routes(RouteAdder& routes) {
  routes.post("/v1/responses", answer_responses);
  routes.post("/v1/messages", with_anthropic_errors(answer_anthropic));
  routes.post("/v1/messages/count_tokens", with_anthropic_errors(count_anthropic));
  routes.post("/v1/chat/completions", [](Service& service, const HttpRequest& http,
                                         Responder responder) {
    const ChatRequest request = parse_chat_request(parse_body(http.body), service.options.limits);
    answer_chat(
        service, request,
        [](const AnswerStamp& stamp, const ChatRequest& asked) {
          return std::make_unique<ChatCompletionForm>(stamp, asked.answer.n,
                                                      asked.answer.include_usage,
                                                      asked.answer.generation.logprobs.has_value());
        },
        "chatcmpl-", std::move(responder));
  });
  routes.post("/apply-template",
              [](Service& service, const HttpRequest& http, Responder responder) {
                const Json body = parse_body(http.body);
                const Chat chat = parse_chat(FieldReader(body), service.options.limits);
                const ChatFormat& format = service.chat();
                require_least_context(service, format.least_tokens(chat), {}, "messages");
                const std::string text = format.render(chat).text.text;
                responder.send_json(200, Json::object({{"prompt", text}}).dump());
              });
}

}  // namespace restkv::server
