#include "server/openai/chat_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <utility>

#include "server/http/http_error.h"
#include "server/openai/messages.h"
#include "server/openai/tools.h"

namespace restkv::server {
namespace {

Tool parse_tool(const FieldReader& entry, const RequestLimits& limits) {
  if (entry.required("type", "\"function\"") != Json("function")) {
    entry.refuse("type", "\"function\"");
  }
  (void)entry.required("function", "an object");
  return parse_function(*entry.object("function"), "parameters", limits);
}

void parse_tool_choice(const FieldReader& body, Chat& chat) {
  const Json* choice = body.find("tool_choice");
  if (choice == nullptr) return;
  constexpr const char* kWanted = R"("auto", "none", "required" or a function's name)";
  if (choice->is_string()) {
    const std::string& word = choice->text();
    if (word == "none") {
      chat.tool_choice = ToolChoice::kNone;
    } else if (word == "required") {
      require_tool_call(body, chat);
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
  require_call_of(*fields.object("function"), chat);
}

void parse_functions(const FieldReader& body, const RequestLimits& limits, Chat& chat) {
  for (const char* old : {"functions", "function_call"}) {
    body.refuse_if_given(old, "OpenAI has replaced it; use 'tools' and 'tool_choice'");
  }
  chat.tools = parse_tools(body, limits,
                           [&](const FieldReader& entry) { return parse_tool(entry, limits); });
  chat.parallel_tool_calls = body.boolean("parallel_tool_calls");
  parse_tool_choice(body, chat);
}

}  // namespace

Json any_object() { return Json::object({{"type", "object"}}); }

std::vector<ChatMessage> Chat::plain() const {
  std::vector<ChatMessage> list;
  for (const Message& message : messages) {
    list.push_back({message.role == "developer" ? "system" : message.role, message.content});
  }
  return list;
}

void set_reasoning_effort(const std::string& effort, Chat& chat) {
  if (effort == "none") {
    chat.template_variables["enable_thinking"] = false;
  } else {
    chat.template_variables["reasoning_effort"] = effort;
  }
}

void parse_template_variables(const FieldReader& body, Chat& chat) {
  if (body.object("chat_template_kwargs")) {
    chat.template_variables = *body.find("chat_template_kwargs");
  }
  if (const auto effort = body.text("reasoning_effort", 32)) {
    set_reasoning_effort(*effort, chat);
  }
  const FieldReader variables(chat.template_variables, body.path("chat_template_kwargs"));
  (void)variables.boolean("enable_thinking");
  body.refuse_if_given("chat_template", "templates from clients are not run; leave it out");
}

Json parse_answer_schema(const FieldReader& holder, const RequestLimits& limits) {
  (void)holder.required("schema", "a JSON schema");
  const Json& schema = *holder.find("schema");
  require_small_schema(schema, holder.path("schema"), limits);
  return schema.empty() ? any_object() : schema;
}

std::optional<Json> parse_response_format(const FieldReader& body, const RequestLimits& limits) {
  const auto format = body.object("response_format");
  if (!format) return std::nullopt;
  (void)format->required("type", R"("text", "json_object" or "json_schema")");
  const std::string type = *format->text("type");
  if (type == "text") return std::nullopt;
  if (type == "json_object") {
    if (format->find("schema") == nullptr) return any_object();
    return parse_answer_schema(*format, limits);
  }
  if (type != "json_schema") {
    format->refuse("type", R"("text", "json_object" or "json_schema")");
  }
  (void)format->required("json_schema", "an object");
  const FieldReader wrapped = *format->object("json_schema");
  (void)wrapped.text("name", 64);
  (void)wrapped.boolean("strict");
  return parse_answer_schema(wrapped, limits);
}

Chat parse_chat(const FieldReader& body, const RequestLimits& limits) {
  Chat chat;
  chat.messages = parse_messages(body, limits);
  parse_functions(body, limits, chat);
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
    const bool is_text = modalities->size() == 1 && modalities->at(size_t{0}) == Json("text");
    if (!is_text) body.refuse("modalities", "[\"text\"]: this server writes text only");
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
