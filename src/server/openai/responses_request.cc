#include "server/openai/responses_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>

#include "server/http/http_error.h"
#include "server/openai/field_reader.h"
#include "server/openai/messages.h"
#include "server/openai/tools.h"

namespace restkv::server {
namespace {

constexpr std::array<std::string_view, 4> kItemRoles{"system", "developer", "user", "assistant"};
constexpr std::array<PartType, 4> kItemParts{
    {{"input_text", "text"}, {"output_text", "text"}, {"text", "text"}, {"refusal", "refusal"}}};

/// The list "input" as messages. An assistant's text and the calls after it are one message.
class InputReader {
 public:
  explicit InputReader(std::vector<Message>& messages) : messages_(messages) {}

  void read(const FieldReader& item) {
    const bool is_message = item.find("type") == nullptr && item.find("role") != nullptr;
    constexpr const char* kTypes =
        R"("message", "function_call", "function_call_output" or "reasoning")";
    if (!is_message) (void)item.required("type", kTypes);
    const std::string type = is_message ? "message" : *item.text("type");
    if (type == "message") return read_message(item);
    if (type == "function_call") return read_call(item);
    if (type == "function_call_output") return read_output(item);
    if (type == "reasoning") return;
    if (type == "item_reference") {
      item.refuse("type", "the item itself: this server keeps no items");
    }
    item.refuse("type", kTypes);
  }

 private:
  void read_message(const FieldReader& item) {
    const std::string wanted = fmt::format("one of {}", fmt::join(kItemRoles, ", "));
    (void)item.required("role", wanted);
    Message message{.role = *item.text("role")};
    if (std::ranges::find(kItemRoles, message.role) == kItemRoles.end())
      item.refuse("role", wanted);
    (void)item.required("content", "a text or a list of parts");
    message.content = parse_texts(item, "content", kItemParts);
    messages_.push_back(std::move(message));
  }

  void read_call(const FieldReader& item) {
    for (const char* name : {"call_id", "name", "arguments"}) (void)item.required(name, "a text");
    ToolCall call{*item.text("call_id"), *item.text("name"), *item.text("arguments")};
    names_[call.id] = call.name;
    if (messages_.empty() || messages_.back().role != "assistant") {
      messages_.push_back({.role = "assistant"});
    }
    messages_.back().tool_calls.push_back(std::move(call));
  }

  void read_output(const FieldReader& item) {
    (void)item.required("call_id", "the id of a call");
    (void)item.required("output", "a text or a list of parts");
    Message message{.role = "tool", .content = parse_texts(item, "output", kItemParts)};
    message.tool_call_id = *item.text("call_id");
    if (const auto found = names_.find(message.tool_call_id); found != names_.end()) {
      message.name = found->second;
    }
    messages_.push_back(std::move(message));
  }

  std::vector<Message>& messages_;
  std::unordered_map<std::string, std::string> names_;  // of tools, by the ids of their calls
};

std::vector<Message> parse_input(const FieldReader& body, const RequestLimits& limits) {
  std::vector<Message> messages;
  if (auto instructions = body.text("instructions")) {
    messages.push_back({.role = "system", .content = std::move(*instructions)});
  }
  const size_t before = messages.size();
  const Json& input = body.required("input", "a text or a list of items");
  if (input.is_string()) {
    messages.push_back({.role = "user", .content = input.text()});
    return messages;
  }
  if (!input.is_array()) body.refuse("input", "a text or a list of items");
  const Json& list = parse_list(body, "input", limits.messages);
  InputReader reader(messages);
  for (size_t i = 0; i < list.size(); ++i) {
    reader.read(FieldReader(list.at(i), item_path(body.path("input"), i)));
  }
  if (messages.size() == before) {
    refuse_field(body.path("input"), "'input' has items of reasoning only; add a message");
  }
  return messages;
}

void parse_choice(const FieldReader& body, Chat& chat) {
  constexpr const char* kWanted =
      R"("auto", "none", "required", a function's name or a list of allowed tools)";
  const Json* choice = body.find("tool_choice");
  if (choice == nullptr || *choice == Json("auto")) return;
  if (*choice == Json("none")) {
    chat.tool_choice = ToolChoice::kNone;
    return;
  }
  if (*choice == Json("required")) return require_tool_call(body, chat);
  if (!choice->is_object()) body.refuse("tool_choice", kWanted);
  const FieldReader fields(*choice, body.path("tool_choice"));
  const std::string type = fields.text("type").value_or("");
  if (type == "function") return require_call_of(fields, chat);
  if (type != "allowed_tools") body.refuse("tool_choice", kWanted);

  if (chat.tools.empty()) body.refuse("tool_choice", "'tools' beside it");
  const Json& allowed = parse_list(fields, "tools", chat.tools.size());
  std::vector<Tool> tools;
  for (size_t i = 0; i < allowed.size(); ++i) {
    const FieldReader entry(allowed.at(i), item_path(fields.path("tools"), i));
    (void)entry.required("name", "the name of a function in 'tools'");
    const std::string name = *entry.text("name");
    const auto found =
        std::ranges::find_if(chat.tools, [&](const Tool& tool) { return tool.name == name; });
    if (found == chat.tools.end()) entry.refuse("name", "the name of a function in 'tools'");
    tools.push_back(*found);
  }
  chat.tools = std::move(tools);
  const std::string mode = fields.text("mode").value_or("auto");
  if (mode != "auto" && mode != "required") fields.refuse("mode", R"("auto" or "required")");
  if (mode == "required") chat.tool_choice = ToolChoice::kRequired;
}

/// The flat form of a tool. `echo`: as the answer repeats it.
Tool parse_tool(const FieldReader& entry, const RequestLimits& limits, Json& echo) {
  constexpr const char* kWanted = R"("function": this server runs no tools of its own)";
  if (entry.required("type", kWanted) != Json("function")) entry.refuse("type", kWanted);
  Tool tool = parse_function(entry, "parameters", limits);
  const auto strict = entry.boolean("strict");
  echo.push_back(Json::object({{"type", "function"},
                               {"name", tool.name},
                               {"description", tool.description},
                               {"parameters", tool.parameters},
                               {"strict", strict ? Json(*strict) : Json()}}));
  return tool;
}

/// "text": what the answer has to look like. The result is what the answer repeats.
Json parse_text(const FieldReader& body, const RequestLimits& limits, Chat& chat) {
  Json echo = Json::object({{"format", Json::object({{"type", "text"}})}});
  const auto text = body.object("text");
  if (!text) return echo;
  if (const auto verbosity = text->text("verbosity", 32)) echo["verbosity"] = *verbosity;
  const auto format = text->object("format");
  if (!format) return echo;
  chat.schema_path = format->path("schema");
  constexpr const char* kTypes = R"("text", "json_object" or "json_schema")";
  (void)format->required("type", kTypes);
  const std::string type = *format->text("type");
  (void)format->text("name", 64);
  (void)format->boolean("strict");
  if (type == "json_object") {
    chat.schema = any_object();
  } else if (type == "json_schema") {
    chat.schema = parse_answer_schema(*format, limits);
  } else if (type != "text") {
    format->refuse("type", kTypes);
  }
  echo["format"] = *text->find("format");
  return echo;
}

/// Texts by name, with OpenAI's own limits: every event that holds the response repeats them.
Json parse_metadata(const FieldReader& body) {
  constexpr size_t kMostItems = 16;
  constexpr size_t kMostNameBytes = 64;
  constexpr size_t kMostTextBytes = 512;
  const auto metadata = body.object("metadata");
  if (!metadata) return Json::object();
  if (metadata->object_fields().size() > kMostItems) {
    refuse_field(body.path("metadata"), fmt::format("'metadata' has {} fields; the limit is {}",
                                                    metadata->object_fields().size(), kMostItems));
  }
  for (const auto& [name, value] : metadata->object_fields()) {
    if (name.size() > kMostNameBytes) {
      refuse_field(body.path("metadata"), fmt::format("'metadata' has a name of {} bytes; the "
                                                      "limit is {}",
                                                      name.size(), kMostNameBytes));
    }
    if (!value.is_string()) refuse_value(metadata->path(name), value, "a text");
    (void)metadata->text(name, kMostTextBytes);
  }
  return *body.find("metadata");
}

void parse_logprobs(const FieldReader& body, const RequestLimits& limits, AnswerOptions& answer) {
  constexpr const char* kLogprobs = "message.output_text.logprobs";
  bool wanted = false;
  if (const Json* include = body.list("include")) {
    for (size_t i = 0; i < include->size(); ++i) {
      const Json& item = include->at(i);
      if (!item.is_string()) refuse_value(item_path(body.path("include"), i), item, "a text");
      wanted = wanted || item == Json(kLogprobs);  // the others are about tools, or encrypted
    }
  }
  const auto top = body.whole("top_logprobs", 0, static_cast<int64_t>(limits.logprobs));
  if (top.value_or(0) > 0 && !wanted) {
    body.refuse("top_logprobs", fmt::format(R"("{}" in 'include' beside it)", kLogprobs));
  }
  if (wanted) answer.generation.logprobs = static_cast<size_t>(top.value_or(0));
}

void refuse_what_is_stored(const FieldReader& body) {
  body.refuse_if_given("previous_response_id",
                       "this server keeps no responses; send the whole conversation as 'input'");
  body.refuse_if_given("conversation",
                       "this server keeps no conversations; send the whole one as 'input'");
  body.refuse_if_given("prompt", "this server keeps no prompts; send the text as 'instructions'");
  if (body.boolean("background").value_or(false)) {
    body.refuse("background", "false: this server keeps no responses");
  }
  (void)body.boolean("store");
}

/// 0.8, where a double of the float would be 0.800000011920929.
Json number_json(float value) { return parse_json(fmt::format("{}", value)); }

}  // namespace

ResponsesRequest parse_responses_request(const Json& json, const RequestLimits& limits) {
  const FieldReader body(json);
  refuse_what_is_stored(body);
  ResponsesRequest result;
  Chat& chat = result.request.chat;
  AnswerOptions& answer = result.request.answer;
  chat.messages = parse_input(body, limits);
  Json tools = Json::array();
  chat.tools = parse_tools(
      body, limits, [&](const FieldReader& entry) { return parse_tool(entry, limits, tools); });
  chat.parallel_tool_calls = body.boolean("parallel_tool_calls");
  parse_choice(body, chat);
  const Json text = parse_text(body, limits, chat);
  parse_template_variables(body, chat);
  std::optional<std::string> effort;
  if (const auto reasoning = body.object("reasoning")) {
    effort = reasoning->text("effort", 32);
    if (effort) set_reasoning_effort(*effort, chat);
  }

  answer = parse_answer_options(body, limits);
  if (answer.n != 1) body.refuse("n", "1: a response is one answer");
  parse_max_tokens(body, {"max_output_tokens"}, 1, limits.default_max_tokens, limits, answer);
  parse_logprobs(body, limits, answer);
  constexpr const char* kTruncations = R"("auto" or "disabled")";
  const std::string truncation = body.text("truncation").value_or("disabled");
  if (truncation != "auto" && truncation != "disabled") body.refuse("truncation", kTruncations);

  const auto given = [&](const char* name) {
    const Json* value = body.find(name);
    return value == nullptr ? Json() : *value;
  };
  const Json* choice = body.find("tool_choice");
  const SamplingOptions& sampling = answer.generation.sampling;
  result.echo = Json::object(
      {{"instructions", given("instructions")},
       {"max_output_tokens", given("max_output_tokens")},
       {"metadata", parse_metadata(body)},
       {"parallel_tool_calls", chat.parallel_tool_calls.value_or(false)},
       {"previous_response_id", nullptr},
       {"reasoning",
        Json::object({{"effort", effort ? Json(*effort) : Json()}, {"summary", nullptr}})},
       {"store", false},
       {"temperature", number_json(sampling.temperature)},
       {"text", text},
       {"tool_choice", choice == nullptr ? Json("auto") : *choice},
       {"tools", tools},
       {"top_logprobs", answer.generation.logprobs.value_or(0)},
       {"top_p", number_json(sampling.top_p)},
       {"truncation", "disabled"},
       {"user", given("user")}});
  return result;
}

}  // namespace restkv::server
