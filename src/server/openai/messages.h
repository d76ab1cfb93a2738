#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "server/openai/chat_request.h"
#include "server/openai/field_reader.h"
#include "server/openai/limits.h"

namespace restkv::server {

/// "messages": at least one. Parts that are no text (images, sound) are refused by their type.
/// Throws `HttpError` (400).
std::vector<Message> parse_messages(const FieldReader& body, const RequestLimits& limits);

/// A part of a message that is text: the word of its "type", and the field that holds the text.
struct PartType {
  const char* type;
  const char* field;
};
/// The field `name`: a text, or a list of parts, which are joined by line feeds; empty if it is
/// absent. Throws `HttpError` (400), for parts of other types, too.
std::string parse_texts(const FieldReader& holder, const char* name,
                        std::span<const PartType> types);
/// A list of 1 to `most` items. Throws `HttpError` (400).
const Json& parse_list(const FieldReader& body, const char* name, size_t most);

/// Throws `HttpError` (400) if a schema is no object, or larger than `limits.grammar_bytes`.
void require_small_schema(const Json& schema, const std::string& path, const RequestLimits& limits);

}  // namespace restkv::server
