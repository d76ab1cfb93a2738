#include "server/openai/tools.h"

#include <fmt/format.h>

#include <string>
#include <string_view>

#include "server/openai/messages.h"

namespace restkv::server {
namespace {

bool is_tool_name(const std::string& name) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  return !name.empty() && name.size() <= 64 &&
         name.find_first_not_of(kLetters) == std::string::npos;
}

}  // namespace

std::vector<Tool> parse_tools(const FieldReader& body, const RequestLimits& limits,
                              const std::function<Tool(const FieldReader& entry)>& parse) {
  const Json* list = body.list("tools");
  if (list == nullptr) return {};
  const std::string path = body.path("tools");
  if (list->size() > limits.tools) {
    refuse_field(
        path, fmt::format("'{}' has {} items; the limit is {}", path, list->size(), limits.tools));
  }
  std::vector<Tool> tools;
  for (size_t i = 0; i < list->size(); ++i) {
    tools.push_back(parse(FieldReader(list->at(i), item_path(path, i))));
  }
  return tools;
}

Tool parse_function(const FieldReader& function, const char* schema, const RequestLimits& limits) {
  Tool tool;
  tool.name = function.required("name", "a text").is_string() ? *function.text("name") : "";
  if (!is_tool_name(tool.name)) function.refuse("name", "1 to 64 letters, digits, _, - or .");
  tool.description = function.text("description").value_or("");
  tool.parameters = Json::object();
  if (function.object(schema)) {
    tool.parameters = *function.find(schema);
    require_small_schema(tool.parameters, function.path(schema), limits);
  }
  return tool;
}

void require_tool_call(const FieldReader& body, Chat& chat) {
  chat.tool_choice = ToolChoice::kRequired;
  if (chat.tools.empty()) body.refuse("tool_choice", "'tools' beside it");
}

void require_call_of(const FieldReader& choice, Chat& chat) {
  (void)choice.required("name", "the name of a function in 'tools'");
  const std::string name = *choice.text("name");
  std::erase_if(chat.tools, [&](const Tool& tool) { return tool.name != name; });
  if (chat.tools.empty()) choice.refuse("name", "the name of a function in 'tools'");
  chat.tool_choice = ToolChoice::kRequired;
}

}  // namespace restkv::server
