#include "server/scheduler/admission.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <string>

#include "base/system.h"
#include "restkv/error.h"
#include "server/scheduler/footprint.h"

namespace restkv::server {
namespace {

void require(bool ok, const std::string& message) {
  if (!ok) throw Error(ErrorCode::kInvalidArgument, message);
}

void check_generation(const SchedulerOptions& options, const Request& request, size_t vocabulary) {
  const size_t most = std::min(options.max_n, options.max_answers);
  require(request.n >= 1 && request.n <= most,
          fmt::format("n is {}; expected 1 to {} answers", request.n, most));
  require(!request.generation.on_text, "on_text is set; a listener gets the text instead");
  require(
      request.generation.constraint == nullptr,
      "generation.constraint is set; each answer needs its own, which Request::constraint makes");
  require(!request.prompt_logprobs || !request.document,
          fmt::format("prompt_logprobs is set, but the request begins with document {}, which is "
                      "not read again; put its text into the prompt, or leave one of both out",
                      request.document.value_or("")));
  for (size_t i = 0; i < request.n; ++i) {
    GenerationOptions of_answer = request.generation;
    of_answer.sampling.seed = seed_of_answer(of_answer.sampling.seed, i);
    validate(of_answer, vocabulary);
  }
}

}  // namespace

void check_options(const Model& model, const SchedulerOptions& options) {
  require(options.max_queue > 0, "max_queue is 0: no request could ever be accepted");
  require(options.max_answers > 0, "max_answers is 0: no answer could ever be written");
  require(options.max_n > 0, "max_n is 0: no answer could ever be written");
  require(options.max_prompts > 0, "max_prompts is 0: no prompt could ever be read");
  require(
      options.cache_dir.empty() || options.cache_size > 0,
      fmt::format("cache_size is 0: nothing could be kept in cache_dir, {}; leave cache_dir out "
                  "to keep nothing",
                  options.cache_dir));
  require(options.prompt_share > 0 && options.prompt_share < 1,
          fmt::format("prompt_share is {}; expected more than 0 and less than 1",
                      options.prompt_share));
  (void)Session(model, options.session);
}

void check_request(const Engine& engine, const SchedulerOptions& options, const Request& request,
                   const SessionOptions& session, size_t before, bool is_document,
                   size_t memory_limit) {
  const Model& model = engine.model();
  const ModelConfig& c = model.config();
  if (!is_document) check_generation(options, request, c.vocabulary);
  require(!request.prompt.empty() || before > 0, "the prompt has no tokens");
  for (const int32_t token : request.prompt) {
    require(
        token >= 0 && static_cast<size_t>(token) < c.vocabulary,
        fmt::format("token {} of the prompt is outside the vocabulary of {}", token, c.vocabulary));
  }
  const size_t all = before + request.prompt.size();
  const std::optional<size_t> room = Session(engine, session).room_after(all);
  require(room.has_value(),
          fmt::format("the prompt has {} tokens, but the model's context holds {}; shorten the "
                      "prompt, or use a model with a longer context",
                      all, c.context_length));
  size_t written = is_document ? 0 : request.generation.max_tokens;
  if (*room != Session::kUnlimited) written = std::min(written, *room + 1);
  // Of a document as little as it may hold: what it really does is known when it has been read.
  const size_t need = engine_footprint(model) + footprint(model, session,
                                                          {.before = before,
                                                           .prompt = request.prompt.size(),
                                                           .written = written,
                                                           .reserved = reserves(request, session),
                                                           .scored = request.prompt_logprobs})
                                                    .total(request.n);
  require(need <= memory_limit,
          fmt::format("a prompt of {} tokens and {} more for each of {} answers need up to {}, but "
                      "the memory limit is {}; ask for a lower budget or fewer tokens",
                      all, written, request.n, human_bytes(static_cast<double>(need)),
                      human_bytes(static_cast<double>(memory_limit))));
}

}  // namespace restkv::server
