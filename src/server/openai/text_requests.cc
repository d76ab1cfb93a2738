#include "server/openai/text_requests.h"

#include <fmt/format.h>

#include <iterator>

#include "server/openai/answer_options.h"
#include "server/openai/field_reader.h"
#include "server/openai/prompt.h"
#include "server/openai/token_logprobs.h"

namespace restkv::server {

TokenizeRequest parse_tokenize_request(const Json& json) {
  const FieldReader body(json);
  const bool is_vllm = body.find("content") == nullptr;
  const char* name = is_vllm ? "prompt" : "content";
  (void)body.required(name, "a text");
  TokenizeRequest request;
  request.text = *body.text(name);
  request.add_special = body.boolean("add_special").value_or(is_vllm);
  request.add_special = body.boolean("add_special_tokens").value_or(request.add_special);
  request.parse_special = body.boolean("parse_special").value_or(true);
  request.with_pieces = body.boolean("with_pieces").value_or(false);
  return request;
}

std::vector<int32_t> parse_detokenize_request(const Json& json, const RequestLimits& limits) {
  const FieldReader body(json);
  (void)body.required("tokens", "a list of token ids");
  return parse_token_ids(*body.list("tokens"), body.path("tokens"), limits);
}

std::string tokens_json(std::span<const int32_t> tokens,
                        const std::function<std::string(int32_t)>& piece_of, size_t context) {
  std::string json = R"({"tokens":[)";
  for (const int32_t token : tokens) {
    if (json.back() != '[') json += ',';
    if (piece_of) {
      const std::string piece = piece_of(token);
      const Json shown = is_utf8(piece) ? Json(piece) : bytes_json(piece);
      json += Json::object({{"id", token}, {"piece", shown}}).dump();
    } else {
      fmt::format_to(std::back_inserter(json), "{}", token);
    }
  }
  fmt::format_to(std::back_inserter(json), R"(],"count":{},"max_model_len":{}}})", tokens.size(),
                 context);
  return json;
}

Json detokenized_json(const std::string& text) {
  return Json::object({{"content", text}, {"prompt", text}});
}

DocumentRequest parse_document_request(const Json& json, const RequestLimits& limits) {
  constexpr size_t kMostNameBytes = 256;
  const FieldReader body(json);
  DocumentRequest request;
  (void)body.required("text", "the text of the document");
  request.text = *body.text("text");
  if (request.text.empty()) body.refuse("text", "a text that is not empty");
  body.refuse_if_given("id", "the server chooses it; use 'name'");
  request.name = body.text("name", kMostNameBytes).value_or("");
  if (const auto restkv = body.object("restkv")) {
    request.session = parse_session_options(*restkv, limits.session, limits);
  }
  return request;
}

}  // namespace restkv::server
