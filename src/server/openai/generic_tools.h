#pragma once

#include "base/json.h"
#include "server/openai/chat_request.h"

/// Tools for models whose template knows none: they are described in the system message, and calls
/// are lines of JSON: {"name": ..., "arguments": {...}}
namespace restkv::server {

/// Whether the answer may have calls of tools.
bool may_call(const Chat& chat);

/// What tells the model which tools it may call, and how.
std::string tools_description(const Chat& chat);

/// The chat as a template without tools can write it: the system message describes those that may
/// be called, unless the messages do (`Chat::describes_tools`); earlier calls are text of the
/// assistant, and results are messages of the user. The result has no tools.
Chat with_tools_as_text(const Chat& chat);

/// The schema of a tool's arguments.
Json parameters_of(const Tool& tool);

}  // namespace restkv::server
