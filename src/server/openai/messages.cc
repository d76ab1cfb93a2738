#include "server/openai/messages.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "server/http/http_error.h"

namespace restkv::server {
namespace {

constexpr std::array<std::string_view, 5> kRoles{"system", "developer", "user", "assistant",
                                                 "tool"};

constexpr std::array<PartType, 2> kParts{{{"text", "text"}, {"refusal", "refusal"}}};

ToolCall parse_call(const FieldReader& entry) {
  if (const auto type = entry.text("type"); type.value_or("function") != "function") {
    entry.refuse("type", "\"function\"");
  }
  (void)entry.required("function", "an object");
  const FieldReader function = *entry.object("function");
  (void)function.required("name", "a text");
  ToolCall call{.id = entry.text("id").value_or(""), .name = *function.text("name")};
  const Json* arguments = function.find("arguments");
  if (arguments == nullptr) {
    call.arguments = "{}";
  } else if (arguments->is_string()) {
    call.arguments = arguments->text();
  } else if (arguments->is_object()) {
    call.arguments = arguments->dump();
  } else {
    function.refuse("arguments", "JSON as a text");
  }
  return call;
}

Message parse_message(const FieldReader& fields) {
  Message message;
  (void)fields.required("role", fmt::format("one of {}", fmt::join(kRoles, ", ")));
  message.role = *fields.text("role");
  if (std::ranges::find(kRoles, message.role) == kRoles.end()) {
    fields.refuse("role", fmt::format("one of {}", fmt::join(kRoles, ", ")));
  }
  message.content = parse_texts(fields, "content", kParts);
  message.name = fields.text("name").value_or("");
  message.tool_call_id = fields.text("tool_call_id").value_or("");
  const bool is_assistant = message.role == "assistant";
  if (is_assistant) {
    for (const char* name : {"reasoning", "reasoning_content"}) {
      if (auto reasoning = fields.text(name)) message.reasoning = std::move(*reasoning);
    }
    if (const Json* calls = fields.list("tool_calls")) {
      for (size_t i = 0; i < calls->size(); ++i) {
        const std::string path = item_path(fields.path("tool_calls"), i);
        message.tool_calls.push_back(parse_call(FieldReader(calls->at(i), path)));
      }
    }
    fields.refuse_if_given("function_call", "OpenAI has replaced it; use 'tool_calls'");
    fields.refuse_if_given("audio", "this model reads text only");
  }
  const bool may_be_silent =
      is_assistant && (!message.tool_calls.empty() || !message.reasoning.empty());
  if (!may_be_silent) (void)fields.required("content", "a text");
  return message;
}

std::string parse_part(const FieldReader& part, std::span<const PartType> types) {
  const std::string wanted = fmt::format("\"{}\"", types.front().type);
  const Json& type = part.required("type", wanted);
  for (const auto& [name, field] : types) {
    if (type != Json(name)) continue;
    (void)part.required(field, "a text");
    return *part.text(field);
  }
  part.refuse("type", wanted + ": this model reads nothing else");
}

}  // namespace

std::string parse_texts(const FieldReader& holder, const char* name,
                        std::span<const PartType> types) {
  const Json* content = holder.find(name);
  if (content == nullptr) return "";
  if (content->is_string()) return content->text();
  if (!content->is_array()) holder.refuse(name, "a text or a list of parts");
  std::string text;
  for (size_t i = 0; i < content->size(); ++i) {
    if (i > 0) text += '\n';
    text += parse_part(FieldReader(content->at(i), item_path(holder.path(name), i)), types);
  }
  return text;
}

const Json& parse_list(const FieldReader& body, const char* name, size_t most) {
  (void)body.required(name, "a list");
  const Json& list = *body.list(name);
  if (!list.empty() && list.size() <= most) return list;
  refuse_field(body.path(name), fmt::format("'{}' has {} items; expected 1 to {}", body.path(name),
                                            list.size(), most));
}

std::vector<Message> parse_messages(const FieldReader& body, const RequestLimits& limits) {
  const Json& list = parse_list(body, "messages", limits.messages);
  std::vector<Message> messages;
  for (size_t i = 0; i < list.size(); ++i) {
    const FieldReader fields(list.at(i), item_path(body.path("messages"), i));
    messages.push_back(parse_message(fields));
  }
  return messages;
}

void require_small_schema(const Json& schema, const std::string& path,
                          const RequestLimits& limits) {
  if (!schema.is_object()) refuse_value(path, schema, "a JSON schema");
  const size_t bytes = schema.dump().size();
  if (bytes <= limits.grammar_bytes) return;
  refuse_field(
      path, fmt::format("'{}' has {} bytes; the limit is {}", path, bytes, limits.grammar_bytes));
}

}  // namespace restkv::server
