#include "server/openai/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "server/http/http_error.h"
#include "server/openai/messages.h"

namespace restkv::server {
namespace {

bool is_tool_name(const std::string& name) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.";
  return !name.empty() && name.size() <= 64 && name.find_first_not_of(kLetters) == std::string::npos;
}

Tool parse_tool(const FieldReader& entry, const RequestLimits& limits) {
  if (entry.required("type", "\"function\"") != Json("function")) {
    entry.refuse("type", "\"function\"");
  }
  (void)entry.required("function", "an object");
  const FieldReader function = *entry.object("function");
  Tool tool;
  tool.name = function.required("name", "a text").is_string() ? *function.text("name") : "";
  if (!is_tool_name(tool.name)) function.refuse("name", "1 to 64 letters, digits, _, - or .");
  tool.description = function.text("description").value_or("");
  tool.parameters = Json::object();
  if (function.object("parameters")) {
    tool.parameters = *function.find("parameters");
    require_small_schema(tool.parameters, function.path("parameters"), limits);
  }
  return tool;
}

void parse_tool_choice(const FieldReader& body, Chat& chat) {
  const Json* choice = body.find("tool_choice");
  if (choice == nullptr) return;
  constexpr const char* kWanted = "\"auto\", \"none\", \"required\" or a function's name";
  if (choice->is_string()) {
    const std::string& word = choice->text();
    if (word == "none") {
      chat.tool_choice = ToolChoice::kNone;
    } else if (word == "required") {
      chat.tool_choice = ToolChoice::kRequired;
      if (chat.tools.empty()) body.refuse("tool_choice", "'tools' beside it");
    } else if (word != "auto") {
      body.refuse("tool_choice", kWanted);
    }
    return;
  }
  if (!choice->is_object() || choice->value("type", Json()) != Json("function")) {
    body.refuse("tool_choice", kWanted);
  }
  const FieldReader fields(*choice, body.path("tool_choice"));
  (void)fields.required("function", "an object");
  const FieldReader function = *fields.object("function");
  (void)function.required("name", "the name of a function in 'tools'");
  const std::string name = *function.text("name");
  std::erase_if(chat.tools, [&](const Tool& tool) { return tool.name != name; });
  if (chat.tools.empty()) function.refuse("name", "the name of a function in 'tools'");
  chat.tool_choice = ToolChoice::kRequired;
}

void parse_tools(const FieldReader& body, const RequestLimits& limits, Chat& chat) {
  for (const char* old : {"functions", "function_call"}) {
    body.refuse_if_given(old, "OpenAI has replaced it; use 'tools' and 'tool_choice'");
  }
  if (const Json* tools = body.list("tools")) {
    if (tools->size() > limits.tools) {
      refuse_field(body.path("tools"), fmt::format("'tools' has {} items; the limit is {}",
                                                   tools->size(), limits.tools));
    }
    for (size_t i = 0; i < tools->size(); ++i) {
      const FieldReader entry(tools->at(i), item_path(body.path("tools"), i));
      chat.tools.push_back(parse_tool(entry, limits));
    }
  }
  chat.parallel_tool_calls = body.boolean("parallel_tool_calls");
  parse_tool_choice(body, chat);
}

void parse_template_variables(const FieldReader& body, Chat& chat) {
  if (body.object("chat_template_kwargs")) {
    chat.template_variables = *body.find("chat_template_kwargs");
  }
  if (const auto effort = body.text("reasoning_effort", 32)) {
    if (*effort == "none") {
      chat.template_variables["enable_thinking"] = false;
    } else {
      chat.template_variables["reasoning_effort"] = *effort;
    }
  }
  const FieldReader variables(chat.template_variables, body.path("chat_template_kwargs"));
  (void)variables.boolean("enable_thinking");
  body.refuse_if_given("chat_template", "templates from clients are not run; leave it out");
}

}  // namespace

std::vector<ChatMessage> Chat::plain() const {
  std::vector<ChatMessage> list;
  for (const Message& message : messages) {
    list.push_back({message.role == "developer" ? "system" : message.role, message.content});
  }
  return list;
}

std::optional<Json> parse_response_format(const FieldReader& body, const RequestLimits& limits) {
  const auto format = body.object("response_format");
  if (!format) return std::nullopt;
  (void)format->required("type", "\"text\", \"json_object\" or \"json_schema\"");
  const std::string type = *format->text("type");
  if (type == "text") return std::nullopt;
  Json any = Json::object({{"type", "object"}});
  const auto schema_of = [&](const FieldReader& holder) {
    (void)holder.object("schema");
    require_small_schema(*holder.find("schema"), holder.path("schema"), limits);
    return holder.find("schema")->empty() ? any : *holder.find("schema");
  };
  if (type == "json_object") return format->find("schema") == nullptr ? any : schema_of(*format);
  if (type != "json_schema") {
    format->refuse("type", "\"text\", \"json_object\" or \"json_schema\"");
  }
  (void)format->required("json_schema", "an object");
  const FieldReader wrapped = *format->object("json_schema");
  (void)wrapped.text("name", 64);
  (void)wrapped.boolean("strict");
  (void)wrapped.required("schema", "a JSON schema");
  return schema_of(wrapped);
}

Chat parse_chat(const FieldReader& body, const RequestLimits& limits) {
  Chat chat;
  chat.messages = parse_messages(body, limits);
  parse_tools(body, limits, chat);
  parse_template_variables(body, chat);
  chat.continue_final_message = body.boolean("continue_final_message").value_or(false);
  chat.add_generation_prompt =
      body.boolean("add_generation_prompt").value_or(!chat.continue_final_message);
  if (chat.continue_final_message) {
    const Message& last = chat.messages.back();
    if (last.role != "assistant" || !last.tool_calls.empty()) {
      body.refuse("continue_final_message", "false: the last message is no assistant's text");
    }
    if (chat.add_generation_prompt) {
      body.refuse("add_generation_prompt", "false beside 'continue_final_message'");
    }
  }
  return chat;
}

ChatRequest parse_chat_request(const Json& json, const RequestLimits& limits) {
  const FieldReader body(json);
  ChatRequest request{.chat = parse_chat(body, limits),
                      .answer = parse_answer_options(body, limits)};
  AnswerOptions& answer = request.answer;
  parse_max_tokens(body, {"max_completion_tokens", "max_tokens"}, 1, limits.default_max_tokens,
                   limits, answer);
  body.refuse_if_given("audio", "this server writes text only");
  if (const Json* modalities = body.list("modalities")) {
    if (modalities->size() != 1 || modalities->at(size_t{0}) != Json("text")) {
      body.refuse("modalities", "[\"text\"]: this server writes text only");
    }
  }
  const bool logprobs = body.boolean("logprobs").value_or(false);
  const auto top = body.whole("top_logprobs", 0, static_cast<int64_t>(limits.logprobs));
  if (top.value_or(0) > 0 && !logprobs) body.refuse("top_logprobs", "'logprobs': true beside it");
  if (logprobs) answer.generation.logprobs = static_cast<size_t>(top.value_or(0));

  Chat& chat = request.chat;
  chat.schema = parse_response_format(body, limits);
  chat.grammar = body.text("grammar", limits.grammar_bytes).value_or("");
  if (!chat.grammar.empty() && chat.schema) {
    body.refuse("grammar", "none beside 'response_format'");
  }
  if (!chat.grammar.empty() && !chat.tools.empty() && chat.tool_choice != ToolChoice::kNone) {
    body.refuse("grammar", "none beside 'tools'");
  }
  return request;
}

}  // namespace restkv::server
