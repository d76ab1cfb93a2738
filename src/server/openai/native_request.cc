#include "server/openai/native_request.h"

#include <fmt/format.h>

#include <algorithm>

#include "server/openai/chat_request.h"
#include "server/openai/messages.h"

namespace restkv::server {
namespace {

/// Fields that change what is written, by a way that is not there, unless they have this value.
struct Neutral {
  const char* name;
  double value;
};
constexpr Neutral kNeutral[]{{"mirostat", 0},        {"typical_p", 1},      {"dynatemp_range", 0},
                             {"xtc_probability", 0}, {"dry_multiplier", 0}, {"n_keep", 0},
                             {"t_max_predict_ms", 0}};

void refuse_other_samplers(const FieldReader& body) {
  constexpr double kMost = 1e300;
  for (const auto& [name, neutral] : kNeutral) {
    const auto value = body.number(name, -kMost, kMost);
    if (!value || *value == neutral || *value < 0) continue;
    body.refuse(name, fmt::format("{}: this server does not have it", neutral));
  }
  if (body.number("top_n_sigma", -kMost, kMost).value_or(-1) > 0) {
    body.refuse("top_n_sigma", "-1: this server does not have it");
  }
  if (body.boolean("post_sampling_probs").value_or(false)) {
    body.refuse("post_sampling_probs", "false: probabilities are those of the model");
  }
}

/// -1 is any number of tokens, and so is -2.
void parse_n_predict(const FieldReader& body, const RequestLimits& limits, AnswerOptions& answer) {
  const char* name = body.find("n_predict") != nullptr ? "n_predict" : "max_tokens";
  const auto most = static_cast<int64_t>(limits.max_tokens);
  const auto n = body.whole(name, -2, most);
  if (n && *n >= 0) {
    parse_max_tokens(body, {name}, 0, limits.default_max_tokens, limits, answer);
  } else {
    parse_max_tokens(body, {}, 0, limits.default_max_tokens, limits, answer);
  }
}

}  // namespace

NativeRequest parse_native_request(const Json& json, const RequestLimits& limits) {
  const FieldReader body(json);
  NativeRequest request;
  request.prompts = parse_prompts(body.required("prompt", "a text, token ids, or a list of either"),
                                  body.path("prompt"), true, limits);
  request.answer = parse_answer_options(body, limits);
  parse_n_predict(body, limits, request.answer);
  refuse_other_samplers(body);
  if (const auto n = body.whole("n_probs", 0, static_cast<int64_t>(limits.logprobs)); n && *n > 0) {
    request.answer.generation.logprobs = static_cast<size_t>(*n);
  }
  request.cache_prompt = body.boolean("cache_prompt").value_or(true);
  request.return_tokens = body.boolean("return_tokens").value_or(false);
  request.grammar = body.text("grammar", limits.grammar_bytes).value_or("");
  request.schema = parse_response_format(body, limits);
  if (const Json* schema = body.find("json_schema")) {
    require_small_schema(*schema, body.path("json_schema"), limits);
    request.schema = schema->empty() ? Json::object({{"type", "object"}}) : *schema;
  }
  if (request.schema && !request.grammar.empty()) {
    body.refuse("grammar", "none beside a schema");
  }
  return request;
}

}  // namespace restkv::server
