#pragma once

#include "base/json.h"
#include "server/openai/chat_request.h"

/// Chats in the form of Anthropic's Messages API.
namespace restkv::server {

/// `POST /v1/messages`. A conversation that ends with text of the assistant is gone on with.
/// Blocks of thinking are reasoning; encrypted ones are ignored. "is_error" of a tool's result is
/// ignored: its text says so. "thinking" switches the template's thinking on or off;
/// "budget_tokens" has no effect, and neither has "cache_control": prefixes are kept anyway.
/// "output_config" has the schema of the answer and an effort (`set_reasoning_effort`). Other
/// fields of a chat completion ("seed", "min_p", "chat_template_kwargs", ...) are used as there,
/// but "n" has to be 1 and stops are called "stop_sequences". Throws `HttpError` (400).
ChatRequest parse_anthropic_request(const Json& json, const RequestLimits& limits);

/// `POST /v1/messages/count_tokens`: the same without what concerns the answer. Throws `HttpError`
/// (400).
Chat parse_anthropic_count(const Json& json, const RequestLimits& limits);

}  // namespace restkv::server
