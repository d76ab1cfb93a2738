// Texts that go on behind prompts, in OpenAI's form and in llama.cpp's own.
#include <fmt/format.h>

#include <utility>

#include "generate/grammar.h"
#include "server/openai/completion_request.h"
#include "server/openai/field_reader.h"
#include "server/openai/native_request.h"
#include "server/openai/schema_grammar.h"
#include "server/service/completion_writer.h"
#include "server/service/native_writer.h"
#include "server/service/requests.h"
#include "server/service/routes.h"

namespace restkv::server {
namespace {

std::vector<std::vector<int32_t>> tokens_of(const Service& service,
                                            const std::vector<Prompt>& prompts,
                                            const AnswerOptions& answer) {
  std::vector<std::vector<int32_t>> tokens;
  for (size_t i = 0; i < prompts.size(); ++i) {
    for (const Prompt::Part& part : prompts[i].parts) {
      if (const auto* text = std::get_if<std::string>(&part)) {
        require_context(service, *text, answer, "prompt");
      }
    }
    tokens.push_back(encode(prompts[i], service.tokenizer, !answer.document.has_value()));
    if (tokens.back().empty() && !answer.document) {
      refuse_field(prompts.size() > 1 ? item_path("prompt", i) : "prompt",
                   "'prompt' is empty, and this model has no token to begin a text with; write "
                   "something");
    }
    require_context(service, tokens.back().size(), answer, "prompt");
  }
  return tokens;
}

/// What is said of the tokens of prompts is held until all are read, and takes some hundred times
/// their memory.
void require_few_logprobs(const CompletionRequest& request,
                          const std::vector<std::vector<int32_t>>& prompts,
                          const RequestLimits& limits) {
  const std::optional<size_t> likeliest = request.answer.generation.logprobs;
  if (!request.echo || !likeliest) return;
  size_t tokens = 0;
  for (const std::vector<int32_t>& prompt : prompts) tokens += prompt.size();
  const size_t count = tokens * request.answer.n * (*likeliest + 1);
  if (count <= limits.echoed_logprobs) return;
  refuse_field("logprobs",
               fmt::format("{} tokens of prompts, in {} choices each, with {} others "
                           "beside them would be {} log-probabilities; the limit is "
                           "{}. Send fewer prompts at a time",
                           tokens, request.answer.n, *likeliest, count, limits.echoed_logprobs));
}

void answer_completion(Service& service, const HttpRequest& http, Responder responder) {
  const CompletionRequest request =
      parse_completion_request(parse_body(http.body), service.options.limits);
  service.require_model(request.answer.model);
  std::vector<std::vector<int32_t>> tokens = tokens_of(service, request.prompts, request.answer);
  if (request.echo && request.answer.document) {
    refuse_field("echo", "'echo' cannot repeat a 'document'; leave one of them out");
  }
  require_few_logprobs(request, tokens, service.options.limits);
  std::vector<Request> requests;
  for (const std::vector<int32_t>& prompt : tokens) {
    Request asked = request_of(service, request.answer, prompt);
    if (request.echo) asked.prompt_logprobs = request.answer.generation.logprobs;
    requests.push_back(std::move(asked));
  }
  const AnswerStamp stamp = stamp_of(service, "cmpl-");
  auto writer =
      std::make_unique<CompletionWriter>(stamp, request, std::move(tokens), service.tokenizer);
  submit(service, stamp, std::move(requests), std::move(writer), request.answer.stream,
         std::move(responder));
}

void answer_native(Service& service, const HttpRequest& http, Responder responder) {
  const NativeRequest request = parse_native_request(parse_body(http.body), service.options.limits);
  service.require_model(request.answer.model);
  std::optional<GrammarOptions> grammar;
  if (request.schema) grammar = {.gbnf = grammar_of_schema(*request.schema, "json_schema")};
  if (!request.grammar.empty()) {
    grammar = {.gbnf = request.grammar};
    (void)make_grammar(service.tokenizer, *grammar);  // refuses it before anything is read
  }
  std::vector<Request> requests;
  GenerationOptions generation;
  for (std::vector<int32_t>& prompt : tokens_of(service, request.prompts, request.answer)) {
    Request asked = request_of(service, request.answer, std::move(prompt));
    asked.reuse = request.cache_prompt;
    if (grammar) constrain(service, asked, *grammar);
    generation = asked.generation;
    requests.push_back(std::move(asked));
  }
  auto writer =
      std::make_unique<NativeWriter>(service.card.id, request, generation, service.tokenizer);
  submit(service, stamp_of(service, "cmpl-"), std::move(requests), std::move(writer),
         request.answer.stream, std::move(responder));
}

}  // namespace

void add_completion_routes(RouteAdder& routes) {
  routes.post("/v1/completions", answer_completion);
  routes.post("/completion", answer_native);
  routes.post("/completions", answer_native);
}

}  // namespace restkv::server
