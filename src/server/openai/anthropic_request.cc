#include "server/openai/anthropic_request.h"

#include <array>
#include <cstdint>
#include <limits>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "server/http/http_error.h"
#include "server/openai/field_reader.h"
#include "server/openai/messages.h"
#include "server/openai/tools.h"

namespace restkv::server {
namespace {

constexpr std::array<PartType, 1> kParts{{{"text", "text"}}};
constexpr size_t kMostUserBytes = 512;

/// "messages" as those of a chat: results of tools are messages of their own.
class MessageReader {
 public:
  explicit MessageReader(std::vector<Message>& messages) : messages_(messages) {}

  void read(const FieldReader& fields) {
    constexpr const char* kRoles = R"("user", "assistant" or "system")";
    (void)fields.required("role", kRoles);
    const std::string role = *fields.text("role");
    const Json& content = fields.required("content", "a text or a list of blocks");
    if (role == "user" || role == "assistant") {
      message_ = {.role = role};
      has_text_ = false;
      if (!content.is_array()) {
        add_text(parse_texts(fields, "content", kParts));
      } else {
        const bool is_user = role == "user";
        for (size_t i = 0; i < content.size(); ++i) {
          const FieldReader block(content.at(i), item_path(fields.path("content"), i));
          if (is_user)
            read_user_block(block);
          else
            read_assistant_block(block);
        }
      }
      // Results alone leave nothing to say.
      if (has_text_ || role == "assistant" || content.empty()) flush();
    } else if (role == "system") {
      messages_.push_back({.role = role, .content = parse_texts(fields, "content", kParts)});
    } else {
      fields.refuse("role", kRoles);
    }
  }

 private:
  static std::string type_of(const FieldReader& block, const char* wanted) {
    (void)block.required("type", wanted);
    return *block.text("type");
  }

  void read_user_block(const FieldReader& block) {
    constexpr const char* kTypes = R"("text" or "tool_result": this model reads nothing else)";
    const std::string type = type_of(block, kTypes);
    if (type == "text") return read_text(block);
    if (type != "tool_result") block.refuse("type", kTypes);
    (void)block.required("tool_use_id", "the id of a 'tool_use'");
    (void)block.boolean("is_error");
    Message result{.role = "tool", .content = parse_texts(block, "content", kParts)};
    result.tool_call_id = *block.text("tool_use_id");
    if (const auto found = names_.find(result.tool_call_id); found != names_.end()) {
      result.name = found->second;
    }
    if (has_text_) flush();
    messages_.push_back(std::move(result));
  }

  void read_assistant_block(const FieldReader& block) {
    constexpr const char* kTypes = R"("text", "tool_use", "thinking" or "redacted_thinking")";
    const std::string type = type_of(block, kTypes);
    if (type == "text") return read_text(block);
    if (type == "redacted_thinking") return;
    if (type == "thinking") {
      (void)block.required("thinking", "a text");
      message_.reasoning += *block.text("thinking");
      return;
    }
    if (type != "tool_use") block.refuse("type", kTypes);
    for (const char* name : {"id", "name"}) (void)block.required(name, "a text");
    (void)block.required("input", "an object");
    (void)block.object("input");
    ToolCall call{*block.text("id"), *block.text("name"), block.find("input")->dump()};
    names_[call.id] = call.name;
    message_.tool_calls.push_back(std::move(call));
  }

  void read_text(const FieldReader& block) {
    (void)block.required("text", "a text");
    add_text(*block.text("text"));
  }

  void add_text(const std::string& text) {
    if (std::exchange(has_text_, true)) message_.content += '\n';
    message_.content += text;
  }

  void flush() {
    const std::string role = message_.role;
    messages_.push_back(std::exchange(message_, {.role = role}));
    has_text_ = false;
  }

  std::vector<Message>& messages_;
  Message message_ = {};  ///< The one that is being read.
  bool has_text_ = false;
  std::unordered_map<std::string, std::string> names_;  ///< Of tools, by the ids of their calls.
};

void parse_conversation(const FieldReader& body, const RequestLimits& limits, Chat& chat) {
  if (body.find("system") != nullptr) {
    chat.messages.push_back({.role = "system", .content = parse_texts(body, "system", kParts)});
  }
  const Json& list = parse_list(body, "messages", limits.messages);
  MessageReader reader(chat.messages);
  for (size_t i = 0; i < list.size(); ++i) {
    reader.read(FieldReader(list.at(i), item_path(body.path("messages"), i)));
  }
  const Message& last = chat.messages.back();
  if (last.role != "assistant") return;
  if (!last.tool_calls.empty()) {
    refuse_field(body.path("messages"),
                 "'messages' ends with a 'tool_use'; add a message of the user with its "
                 "'tool_result'");
  }
  chat.continue_final_message = true;
  chat.add_generation_prompt = false;
}

Tool parse_tool(const FieldReader& entry, const RequestLimits& limits) {
  if (entry.text("type").value_or("custom") != "custom") {
    entry.refuse("type", R"("custom": this server runs no tools of its own)");
  }
  (void)entry.required("input_schema", "a JSON schema");
  return parse_function(entry, "input_schema", limits);
}

void parse_choice(const FieldReader& body, Chat& chat) {
  const auto choice = body.object("tool_choice");
  if (!choice) return;
  constexpr const char* kTypes = R"("auto", "any", "tool" or "none")";
  (void)choice->required("type", kTypes);
  const std::string type = *choice->text("type");
  if (const auto disabled = choice->boolean("disable_parallel_tool_use")) {
    chat.parallel_tool_calls = !*disabled;
  }
  if (type == "none") {
    chat.tool_choice = ToolChoice::kNone;
  } else if (type == "any") {
    require_tool_call(body, chat);
  } else if (type == "tool") {
    require_call_of(*choice, chat);
  } else if (type != "auto") {
    choice->refuse("type", kTypes);
  }
}

void parse_thinking(const FieldReader& body, Chat& chat) {
  const auto thinking = body.object("thinking");
  if (!thinking) return;
  constexpr const char* kTypes = R"("enabled", "disabled" or "adaptive")";
  (void)thinking->required("type", kTypes);
  const std::string type = *thinking->text("type");
  (void)thinking->whole("budget_tokens", 0, std::numeric_limits<int64_t>::max());
  if (type == "enabled" || type == "disabled") {
    chat.template_variables["enable_thinking"] = type == "enabled";
  } else if (type != "adaptive") {  // then the template decides
    thinking->refuse("type", kTypes);
  }
}

void parse_output(const FieldReader& body, const RequestLimits& limits, Chat& chat) {
  const auto output = body.object("output_config");
  if (!output) return;
  if (const auto effort = output->text("effort", 32)) set_reasoning_effort(*effort, chat);
  const auto format = output->object("format");
  if (!format) return;
  if (format->required("type", R"("json_schema")") != Json("json_schema")) {
    format->refuse("type", R"("json_schema")");
  }
  chat.schema_path = format->path("schema");
  chat.schema = parse_answer_schema(*format, limits);
}

Chat parse_chat_of(const FieldReader& body, const RequestLimits& limits) {
  Chat chat;
  parse_conversation(body, limits, chat);
  chat.tools = parse_tools(body, limits,
                           [&](const FieldReader& entry) { return parse_tool(entry, limits); });
  parse_choice(body, chat);
  parse_template_variables(body, chat);
  parse_thinking(body, chat);
  parse_output(body, limits, chat);
  return chat;
}

}  // namespace

Chat parse_anthropic_count(const Json& json, const RequestLimits& limits) {
  return parse_chat_of(FieldReader(json), limits);
}

ChatRequest parse_anthropic_request(const Json& json, const RequestLimits& limits) {
  const FieldReader body(json);
  ChatRequest request{.chat = parse_chat_of(body, limits),
                      .answer = parse_answer_options(body, limits, "stop_sequences")};
  AnswerOptions& answer = request.answer;
  if (answer.n != 1) body.refuse("n", "1: a message is one answer");
  (void)body.required("max_tokens", "the most tokens that the answer may have");
  parse_max_tokens(body, {"max_tokens"}, 1, limits.default_max_tokens, limits, answer);
  if (const auto metadata = body.object("metadata")) {
    if (auto user = metadata->text("user_id", kMostUserBytes)) answer.user = std::move(*user);
  }
  return request;
}

}  // namespace restkv::server
