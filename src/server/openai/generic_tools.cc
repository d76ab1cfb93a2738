#include "server/openai/generic_tools.h"

#include <fmt/format.h>

#include <map>
#include <string>
#include <utility>
#include <vector>

namespace restkv::server {
namespace {

std::string text_of_call(const ToolCall& call) {
  return fmt::format(R"({{"name": {}, "arguments": {}}})", Json(call.name).dump(),
                     call.arguments.empty() ? "{}" : call.arguments);
}

void append_paragraph(std::string& text, const std::string& more) {
  if (!text.empty() && !more.empty()) text += "\n\n";
  text += more;
}

void describe(const Chat& chat, std::vector<Message>& messages) {
  const bool has_system = !messages.empty() && (messages.front().role == "system" ||
                                                messages.front().role == "developer");
  if (!has_system) messages.insert(messages.begin(), {.role = "system"});
  append_paragraph(messages.front().content, tools_description(chat));
}

}  // namespace

std::string tools_description(const Chat& chat) {
  std::string text = "You can call tools. Each of these lines describes one:\n";
  for (const Tool& tool : chat.tools) {
    Json line = Json::object({{"name", tool.name}});
    if (!tool.description.empty()) line["description"] = tool.description;
    line["parameters"] = parameters_of(tool);
    text += line.dump() + '\n';
  }
  text +=
      "\nTo call a tool, answer with one line of JSON and nothing else:\n"
      "{\"name\": \"<name of the tool>\", \"arguments\": {<its parameters and their values>}}\n";
  if (chat.parallel_tool_calls.value_or(false)) {
    text += "To call several tools, write one line for each.\n";
  }
  if (chat.tool_choice != ToolChoice::kRequired) {
    return text + "If you need no tool, answer with text.";
  }
  if (chat.tools.size() > 1) return text + "Your answer has to be a call of a tool.";
  return text + fmt::format("Your answer has to be a call of the tool {}.", chat.tools[0].name);
}

Json parameters_of(const Tool& tool) {
  if (!tool.parameters.empty()) return tool.parameters;
  return Json::object({{"type", "object"}, {"properties", Json::object()}});
}

bool may_call(const Chat& chat) {
  return !chat.tools.empty() && chat.tool_choice != ToolChoice::kNone;
}

Chat with_tools_as_text(const Chat& chat) {
  Chat result = chat;
  result.tools.clear();
  result.messages.clear();
  std::map<std::string, std::string> names;  // of the tools that were called, by id
  bool after_result = false;
  for (Message message : chat.messages) {
    for (const ToolCall& call : std::exchange(message.tool_calls, {})) {
      names[call.id] = call.name;
      if (!message.content.empty()) message.content += '\n';
      message.content += text_of_call(call);
    }
    const bool is_result = message.role == "tool";
    if (is_result) {
      const auto called = names.find(message.tool_call_id);
      const bool is_known = message.name.empty() && called != names.end();
      const std::string name = is_known ? called->second : message.name;
      message = {.role = "user",
                 .content = fmt::format("Result of the tool{}{}:\n{}", name.empty() ? "" : " ",
                                        name, message.content)};
    }
    // Many templates refuse two messages of the user after each other.
    if (after_result && message.role == "user") {
      append_paragraph(result.messages.back().content, message.content);
    } else {
      result.messages.push_back(std::move(message));
      after_result = is_result;
    }
  }
  if (may_call(chat) && !chat.describes_tools) describe(chat, result.messages);
  return result;
}

}  // namespace restkv::server
