#pragma once

#include "base/json.h"
#include "server/openai/chat_request.h"

namespace restkv::server {

/// `POST /v1/responses`: a chat in OpenAI's newer form. Nothing is stored: "store" is answered with
/// false, and what refers to stored responses, items or prompts is refused. Items of reasoning are
/// ignored. "reasoning.effort" is a variable of the chat template (`set_reasoning_effort`).
/// "truncation" is answered with "disabled": a prompt that is too long is refused. "n" has to be 1;
/// other fields of a chat completion ("seed", "stop", "top_k", "chat_template_kwargs", ...) are
/// used as there.
struct ResponsesRequest {
  ChatRequest request;
  /// Fields that the answer repeats, as `ResponsesForm` takes them.
  Json echo = Json::object();
};

/// Throws `HttpError` (400).
ResponsesRequest parse_responses_request(const Json& json, const RequestLimits& limits);

}  // namespace restkv::server
