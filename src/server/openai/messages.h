#pragma once

#include <string>
#include <vector>

#include "server/openai/chat_request.h"
#include "server/openai/field_reader.h"
#include "server/openai/limits.h"

namespace restkv::server {

/// "messages": at least one. Parts that are no text (images, sound) are refused by their type.
/// Throws `HttpError` (400).
std::vector<Message> parse_messages(const FieldReader& body, const RequestLimits& limits);

/// Throws `HttpError` (400) if a schema is no object, or larger than `limits.grammar_bytes`.
void require_small_schema(const Json& schema, const std::string& path,
                          const RequestLimits& limits);

}  // namespace restkv::server
