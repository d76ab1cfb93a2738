#pragma once

#include <functional>
#include <vector>

#include "server/openai/chat_request.h"
#include "server/openai/field_reader.h"
#include "server/openai/limits.h"

/// What the forms of requests have in common about tools.
namespace restkv::server {

/// "tools", each item read by `parse`; empty without the field. Throws `HttpError` (400).
std::vector<Tool> parse_tools(const FieldReader& body, const RequestLimits& limits,
                              const std::function<Tool(const FieldReader& entry)>& parse);
/// The fields "name", "description" and `schema` (what the parameters are called). Throws
/// `HttpError` (400).
Tool parse_function(const FieldReader& function, const char* schema, const RequestLimits& limits);

/// The model has to call one of the tools. Throws `HttpError` (400) if there are none.
void require_tool_call(const FieldReader& body, Chat& chat);
/// It has to call the one that the field "name" of `choice` has. Throws `HttpError` (400) if there
/// is no such tool.
void require_call_of(const FieldReader& choice, Chat& chat);

}  // namespace restkv::server
