#pragma once

#include <optional>
#include <string>
#include <vector>

#include "base/json.h"
#include "restkv/tokenizer.h"
#include "server/openai/answer_options.h"

namespace restkv::server {

struct ToolCall {
  std::string id;
  std::string name;
  std::string arguments = {};  ///< JSON as text, as a model wrote it.
  bool operator==(const ToolCall&) const = default;
};

/// One message of a chat. Text parts are joined by line feeds.
struct Message {
  std::string role;  ///< "system", "developer", "user", "assistant" or "tool".
  std::string content = {};
  std::string reasoning = {};             ///< An assistant's, before its answer.
  std::vector<ToolCall> tool_calls = {};  ///< An assistant's.
  std::string name = {};                  ///< Who speaks, or a tool's name.
  std::string tool_call_id = {};          ///< Which call a tool answers.
  bool operator==(const Message&) const = default;
};

struct Tool {
  std::string name;
  std::string description;
  Json parameters;  ///< A JSON schema; {}: no parameters.
};

enum class ToolChoice { kAuto, kRequired, kNone };

/// What `POST /v1/chat/completions` asks, but for how its answer is sampled.
struct Chat {
  std::vector<Message> messages;
  /// Those that may be called: with `tool_choice` naming one, that one.
  std::vector<Tool> tools;
  ToolChoice tool_choice = ToolChoice::kAuto;
  /// The messages have `tools_description` already: they are called as text.
  bool describes_tools = false;
  std::optional<bool> parallel_tool_calls;
  /// The answer is JSON by this schema.
  std::optional<Json> schema;
  std::string schema_path = "response_format";  ///< What its field is called.
  /// The answer is of this grammar (GBNF).
  std::string grammar;
  /// Variables for the template.
  Json template_variables = Json::object();
  bool add_generation_prompt = true;
  bool continue_final_message = false;  ///< The answer goes on with the last message.

  /// Without tools and reasoning, as `Tokenizer::format_chat` takes them.
  [[nodiscard]] std::vector<ChatMessage> plain() const;
};

struct ChatRequest {
  Chat chat;
  AnswerOptions answer;
};

/// Throws `HttpError` (400).
ChatRequest parse_chat_request(const Json& json, const RequestLimits& limits);
/// `POST /apply-template`: the same without what concerns the answer.
Chat parse_chat(const FieldReader& body, const RequestLimits& limits);
/// "chat_template_kwargs" and "reasoning_effort"; a template from a client is refused.
void parse_template_variables(const FieldReader& body, Chat& chat);
/// What templates understand: "none" switches thinking off, other words are a variable of theirs.
void set_reasoning_effort(const std::string& effort, Chat& chat);
/// The schema of any JSON object.
Json any_object();
/// "schema" of `holder`; an empty one is `any_object`. Throws `HttpError` (400).
Json parse_answer_schema(const FieldReader& holder, const RequestLimits& limits);
/// "response_format": the schema of the answer, if it has to be JSON.
std::optional<Json> parse_response_format(const FieldReader& body, const RequestLimits& limits);

}  // namespace restkv::server
