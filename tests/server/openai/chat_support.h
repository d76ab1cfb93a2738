#pragma once

#include <string>
#include <vector>

#include "base/json.h"
#include "restkv/tokenizer.h"
#include "server/openai/chat_request.h"
#include "support/tiny_model.h"

namespace restkv::server {

inline const Tokenizer& real_tokenizer() {
  static const Tokenizer tokenizer(testing::test_model_path());
  return tokenizer;
}

inline std::string call_id() { return "call_1"; }

inline Chat chat_of(const std::vector<ChatMessage>& messages) {
  Chat chat;
  for (const ChatMessage& m : messages) {
    chat.messages.push_back({.role = m.role, .content = m.content});
  }
  return chat;
}

/// Qwen's form, in which tools are described and called.
inline constexpr const char* kToolTemplate = R"({%- if tools %}
{{- '<|im_start|>system\n# Tools\n<tools>' }}
{%- for tool in tools %}
{{- '\n' }}{{- tool | tojson }}
{%- endfor %}
{{- '\n</tools>\n\nFor each call, return\n<tool_call>\n{"name": <name>, "arguments": <args>}\n</tool_call><|im_end|>\n' }}
{%- endif %}
{%- for message in messages %}
{%- if message.role == 'assistant' and message.tool_calls %}
{{- '<|im_start|>assistant' }}
{%- if message.content %}{{- '\n' + message.content }}{%- endif %}
{%- for call in message.tool_calls %}
{{- '\n<tool_call>\n{"name": "' + call.function.name + '", "arguments": ' }}
{{- call.function.arguments | tojson }}{{- '}\n</tool_call>' }}
{%- endfor %}
{{- '<|im_end|>\n' }}
{%- elif message.role == 'tool' %}
{{- '<|im_start|>user\n<tool_response>\n' + message.content + '\n</tool_response><|im_end|>\n' }}
{%- else %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %})";

inline Chat weather_chat() {
  Chat chat = chat_of({{"user", "Weather in Rome?"}});
  chat.tools.push_back({.name = "weather",
                        .description = "The weather in a city",
                        .parameters = parse_json(R"({"type": "object", "properties":
                          {"city": {"type": "string"}}, "required": ["city"]})")});
  return chat;
}

}  // namespace restkv::server
