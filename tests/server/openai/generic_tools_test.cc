// Tools for models whose template knows none.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "generate/grammar.h"
#include "restkv/tokenizer.h"
#include "server/openai/call_reader.h"
#include "server/openai/chat_format.h"
#include "server/openai/chat_support.h"
#include "server/openai/support.h"

namespace restkv::server {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

/// SmolLM2's own template.
const ChatFormat& plain_format() {
  static const ChatFormat format(real_tokenizer());
  return format;
}

/// Templates that think, by a variable as Qwen's.
constexpr const char* kThinkingTemplate = R"({%- for message in messages %}
{{- '<|im_start|>' + message.role + '\n' + message.content + '<|im_end|>\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}
{%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\n\n</think>\n\n' }}
{%- else %}{{- '<think>\n' }}{%- endif %}{%- endif %})";

Chat two_tools() {
  Chat chat = weather_chat();
  chat.tools.push_back({.name = "weather_in",
                        .description = "",
                        .parameters = parse_json(R"({"type": "object", "properties":
                          {"days": {"type": "integer"}}})")});
  return chat;
}

bool follows(const GrammarOptions& options, std::string_view text) {
  const auto grammar = make_grammar(real_tokenizer(), options);
  for (const int32_t token : real_tokenizer().encode(text, false, false)) {
    if (!grammar->allows(token)) return false;
    grammar->accept(token);
  }
  return grammar->allows(real_tokenizer().end_tokens().front());
}

bool follows(const Chat& chat, std::string_view text) {
  const ChatPrompt prompt = plain_format().render(chat);
  return prompt.grammar.has_value() && follows(*prompt.grammar, text);
}

/// What deltas add up to, which must be what the parser has at the end.
ChatAnswer read_in(const ChatPrompt& prompt, const std::vector<std::string>& pieces) {
  size_t ids = 0;
  ChatParser parser(prompt.syntax, [&] { return fmt::format("call_{}", ++ids); });
  ChatAnswer sum;
  const auto add = [&](const ChatDelta& delta) {
    sum.content += delta.content;
    sum.reasoning += delta.reasoning;
    for (const ChatDelta::Call& call : delta.calls) {
      if (!call.name.empty()) {
        EXPECT_EQ(call.index, sum.tool_calls.size());
        sum.tool_calls.push_back({call.id, call.name});
      }
      ASSERT_EQ(call.index + 1, sum.tool_calls.size());
      sum.tool_calls.back().arguments += call.arguments;
    }
  };
  for (const std::string& piece : pieces) add(parser.push(piece));
  add(parser.end());
  EXPECT_EQ(sum.content, parser.answer().content);
  EXPECT_EQ(sum.reasoning, parser.answer().reasoning);
  EXPECT_EQ(sum.tool_calls, parser.answer().tool_calls);
  return sum;
}

std::vector<std::string> split(std::string_view text, Random& random) {
  std::vector<std::string> pieces;
  while (!text.empty()) {
    const size_t size = std::min(1 + random.below(7), text.size());
    pieces.emplace_back(text.substr(0, size));
    text.remove_prefix(size);
  }
  return pieces;
}

constexpr const char* kDescription =
    "You can call tools. Each of these lines describes one:\n"
    R"({"name":"weather","description":"The weather in a city","parameters":{"type":"object",)"
    R"("properties":{"city":{"type":"string"}},"required":["city"]}})"
    "\n\nTo call a tool, answer with one line of JSON and nothing else:\n"
    "{\"name\": \"<name of the tool>\", \"arguments\": {<its parameters and their values>}}\n";

std::string plain_prompt(const std::string& system, const std::string& rest) {
  return fmt::format("<|im_start|>system\n{}<|im_end|>\n{}<|im_start|>assistant\n", system, rest);
}

TEST(GenericTools, AreUsedWhereTheTemplateKnowsNone) {
  EXPECT_FALSE(plain_format().knows_tools());
  EXPECT_TRUE(ChatFormat(real_tokenizer(), kToolTemplate, "", "").knows_tools());
  EXPECT_FALSE(ChatFormat(real_tokenizer(), kThinkingTemplate, "", "").knows_tools());
  std::string undescribed = kToolTemplate;
  undescribed.replace(undescribed.find("if tools"), 8, "if false");
  EXPECT_FALSE(ChatFormat(real_tokenizer(), undescribed, "", "").knows_tools());
  const Json data = read_json(RESTKV_TEST_DATA_DIR "/chat_templates/chat_templates.json");
  for (const Json& family : data.at("families")) {
    // One of them describes tools, but has no form for calls.
    SCOPED_TRACE(family.at("family").text());
    EXPECT_FALSE(
        ChatFormat(real_tokenizer(), family.at("template").text(), "<s>", "</s>").knows_tools());
  }
}

TEST(GenericTools, AreDescribedInTheSystemMessage) {
  const std::string user = "<|im_start|>user\nWeather in Rome?<|im_end|>\n";
  const auto prompt = [](const Chat& chat) { return plain_format().render(chat).text.text; };
  Chat chat = weather_chat();
  EXPECT_EQ(
      prompt(chat),
      plain_prompt(std::string(kDescription) + "If you need no tool, answer with text.", user));
  chat.parallel_tool_calls = true;
  chat.tool_choice = ToolChoice::kRequired;
  EXPECT_EQ(prompt(chat), plain_prompt(std::string(kDescription) +
                                           "To call several tools, write one line for each.\n"
                                           "Your answer has to be a call of the tool weather.",
                                       user));
  chat.messages.insert(chat.messages.begin(), {.role = "developer", .content = "Be brief."});
  EXPECT_THAT(prompt(chat), StartsWith("<|im_start|>system\nBe brief.\n\nYou can call tools."));
  chat.tool_choice = ToolChoice::kNone;
  EXPECT_EQ(prompt(chat), plain_prompt("Be brief.", user));
  EXPECT_FALSE(plain_format().render(chat).grammar.has_value());
  Chat two = two_tools();
  two.tools[1].parameters = Json::object();
  two.tool_choice = ToolChoice::kRequired;
  EXPECT_THAT(prompt(two), HasSubstr("\n{\"name\":\"weather_in\",\"parameters\":{\"type\":"
                                     "\"object\",\"properties\":{}}}\n"));
  EXPECT_THAT(prompt(two), HasSubstr("\nYour answer has to be a call of a tool.<|im_end|>"));
}

TEST(GenericTools, EarlierCallsAndResultsAreText) {
  Chat chat = chat_of({{"system", "S"}, {"user", "Weather?"}});
  chat.messages.push_back({.role = "assistant",
                           .content = "Let me look.",
                           .tool_calls = {{"a", "weather", R"({"city": "Rome"})"}, {"b", "now"}}});
  chat.messages.push_back({.role = "tool", .content = "15 degrees", .tool_call_id = "a"});
  chat.messages.push_back({.role = "tool", .content = "noon", .name = "now"});
  chat.messages.push_back({.role = "user", .content = "And?"});
  EXPECT_EQ(plain_format().render(chat).text.text,
            plain_prompt("S",
                         "<|im_start|>user\nWeather?<|im_end|>\n"
                         "<|im_start|>assistant\nLet me look.\n"
                         "{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n"
                         "{\"name\": \"now\", \"arguments\": {}}<|im_end|>\n"
                         "<|im_start|>user\nResult of the tool weather:\n15 degrees\n\n"
                         "Result of the tool now:\nnoon\n\nAnd?<|im_end|>\n"));
  chat.messages.pop_back();
  chat.messages.back() = {.role = "tool", .content = "x", .tool_call_id = "unknown"};
  EXPECT_THAT(plain_format().render(chat).text.text, HasSubstr("Result of the tool:\nx<|im_end|>"));
}

TEST(GenericTools, ARequiredCallIsAllThatTheGrammarTakes) {
  Chat chat = two_tools();
  chat.tool_choice = ToolChoice::kRequired;
  const std::string rome = R"({"name": "weather", "arguments": {"city": "Rome"}})";
  for (const std::string& text :
       {rome, std::string(R"({"name":"weather_in","arguments":{"days":3}})"),
        std::string("{\"name\": \"weather_in\", \"arguments\": {\n  \"days\": 3\n}}")}) {
    EXPECT_TRUE(follows(chat, text)) << text;
  }
  for (const std::string& text :
       {std::string(), std::string("Hello"), rome + "x", rome + '\n' + rome, rome.substr(0, 30),
        std::string(R"({"name": "weather", "arguments": {}})"),
        std::string(R"({"name": "weather", "arguments": {"days": 3}})"),
        std::string(R"({"name": "weather_i", "arguments": {"days": 3}})"),
        std::string(R"({"name": "weather_in", "arguments": {"days": "3"}})"),
        std::string(R"({"name": "weather_in", "arguments": {"city": "Rome"}})"),
        std::string(R"({"name": "weather_in"})"), "<think>x</think>" + rome, '\n' + rome,
        "{\n" + rome.substr(1)}) {
    EXPECT_FALSE(follows(chat, text)) << text;
  }
  chat.parallel_tool_calls = true;
  EXPECT_TRUE(follows(chat, rome));
  EXPECT_TRUE(follows(chat, rome + '\n' + rome + '\n' + rome));
  EXPECT_FALSE(follows(chat, rome + '\n'));
  EXPECT_FALSE(follows(chat, rome + "\nHello"));
  chat.tools.resize(1);
  EXPECT_FALSE(follows(chat, R"({"name": "weather_in", "arguments": {"days": 3}})"));
  chat.tools[0].parameters = Json::object();
  EXPECT_TRUE(follows(chat, R"({"name": "weather", "arguments": {}})"));
  EXPECT_FALSE(follows(chat, R"({"name": "weather", "arguments": {"city": "Rome"}})"));
}

TEST(GenericTools, WhereNoCallIsRequiredAnyTextWillDo) {
  const Chat chat = two_tools();
  const std::string rome = R"({"name": "weather", "arguments": {"city": "Rome"}})";
  for (const std::string& text :
       {rome, " \n " + rome, "Let me look.\n" + rome, std::string("Hello.\n\nSo."),
        std::string("{"), std::string(R"({"name": "Rome"})"), std::string(R"({"name": "weathe"})"),
        std::string("{\"name\": \"weather"), std::string("{ \n\"na\n{}\n"),
        std::string(R"(Say {"name": "weather"} or "x")"), std::string("日本 {\n語"),
        "{\n  \"name\"\n:" + rome.substr(8)}) {
    EXPECT_TRUE(follows(chat, text)) << text;
  }
  for (const std::string& text :
       {rome + "x", rome + '\n' + rome, std::string(R"({"name": "weather"})"),
        std::string(R"({"name": "weather", "arguments": {}})"),
        std::string("Look:\n {\"name\" : \"weather_in\", \"city\": 1}"), rome.substr(0, 25)}) {
    EXPECT_FALSE(follows(chat, text)) << text;
  }
}

TEST(GenericTools, ASchemaOfTheAnswerStandsBesideCalls) {
  Chat chat = two_tools();
  chat.schema = parse_json(R"({"type": "object", "properties": {"name": {"type": "string"}},
                               "required": ["name"], "additionalProperties": false})");
  const std::string rome = R"({"name": "weather", "arguments": {"city": "Rome"}})";
  const ChatFormat with_tools(real_tokenizer(), kToolTemplate, "", "<|im_end|>");
  for (const ChatFormat* format : {&plain_format(), &with_tools}) {
    const ChatPrompt prompt = format->render(chat);
    EXPECT_THAT(prompt.text.text, HasSubstr("You can call tools."));
    EXPECT_THAT(prompt.text.text, Not(HasSubstr("# Tools")));
    ASSERT_TRUE(prompt.grammar.has_value());
    for (const std::string& text : {rome, std::string(R"({"name": "weather"})")}) {
      EXPECT_TRUE(follows(*prompt.grammar, text)) << text;
    }
    for (const char* text : {"Hello", R"({"name": 1})"}) {
      EXPECT_FALSE(follows(*prompt.grammar, text)) << text;
    }
    EXPECT_EQ(read_in(prompt, {R"({"name": "weather"})"}).content, R"({"name": "weather"})");
    EXPECT_EQ(read_in(prompt, {rome}).tool_calls.size(), 1U);
    // Only the beginning of the answer can be a call.
    EXPECT_EQ(read_in(prompt, {"[\n" + rome}).content, "[\n" + rome);
  }
  chat.tool_choice = ToolChoice::kRequired;
  EXPECT_FALSE(follows(chat, R"({"name": "weather"})"));
  EXPECT_TRUE(follows(chat, rome));
  const ChatPrompt native = with_tools.render(chat);
  EXPECT_FALSE(follows(*native.grammar, R"({"name": "weather"})"));
  EXPECT_TRUE(follows(*native.grammar, "<tool_call>\n" + rome + "\n</tool_call>"));
}

TEST(GenericTools, DefinitionsOfToolsKeepApart) {
  Chat chat = two_tools();
  chat.tool_choice = ToolChoice::kRequired;
  for (size_t i = 0; i < 2; ++i) {
    chat.tools[i].parameters = parse_json(fmt::format(
        R"({{"type": "object", "properties": {{"x": {{"$ref": "#/$defs/X"}}}}, "required": ["x"],
            "$defs": {{"X": {{"type": "{}"}}}}}})",
        i == 0 ? "integer" : "boolean"));
  }
  EXPECT_TRUE(follows(chat, R"({"name": "weather", "arguments": {"x": 1}})"));
  EXPECT_FALSE(follows(chat, R"({"name": "weather", "arguments": {"x": true}})"));
  EXPECT_TRUE(follows(chat, R"({"name": "weather_in", "arguments": {"x": true}})"));
  EXPECT_FALSE(follows(chat, R"({"name": "weather_in", "arguments": {"x": 1}})"));
}

TEST(GenericTools, ThereMayBeAsManyAsTheServerTakes) {
  Chat chat = weather_chat();
  const Json parameters = chat.tools[0].parameters;
  for (int i = 0; i < 127; ++i) {
    chat.tools.push_back({fmt::format("tool_{}", i * i), "", parameters});
  }
  const std::string call = R"({"name": "tool_15876", "arguments": {"city": "Rome"}})";
  for (const ToolChoice choice : {ToolChoice::kAuto, ToolChoice::kRequired}) {
    chat.tool_choice = choice;
    EXPECT_TRUE(follows(chat, call));
    EXPECT_FALSE(follows(chat, call.substr(0, 25)));
  }
  EXPECT_FALSE(follows(chat, R"({"name": "tool_15877", "arguments": {"city": "Rome"}})"));
  // Two of one name are one tool with the parameters of either.
  chat.tools = {chat.tools[0], chat.tools[0]};
  chat.tools[1].parameters = Json::object();
  EXPECT_TRUE(follows(chat, R"({"name": "weather", "arguments": {}})"));
  EXPECT_TRUE(follows(chat, R"({"name": "weather", "arguments": {"city": "Rome"}})"));
}

TEST(GenericTools, ThoughtsStandBeforeCalls) {
  const ChatFormat format(real_tokenizer(), kThinkingTemplate, "", "<|im_end|>");
  Chat chat = two_tools();
  const std::string rome = R"({"name": "weather", "arguments": {"city": "Rome"}})";
  for (const ToolChoice choice : {ToolChoice::kAuto, ToolChoice::kRequired}) {
    chat.tool_choice = choice;
    const ChatPrompt prompt = format.render(chat);
    ASSERT_TRUE(prompt.text.text.ends_with("<think>\n"));
    const std::string text = "hm < </think\n{\"name\": \"weather\"} 日\n</think>\n\n" + rome;
    EXPECT_TRUE(follows(*prompt.grammar, text));
    EXPECT_FALSE(follows(*prompt.grammar, "hm\n"));
    EXPECT_FALSE(follows(*prompt.grammar, text + 'x'));
    const ChatAnswer answer = read_in(prompt, {text});
    EXPECT_THAT(answer.reasoning, StartsWith("hm < </think\n{\"name\""));
    EXPECT_EQ(answer.content, "");
    ASSERT_EQ(answer.tool_calls.size(), 1U);
  }
  chat.template_variables["enable_thinking"] = false;
  const ChatPrompt prompt = format.render(chat);
  EXPECT_TRUE(follows(*prompt.grammar, rome));
  EXPECT_FALSE(follows(*prompt.grammar, "hm</think>" + rome));
}

TEST(GenericTools, CallsAreReadAsTheyAreWritten) {
  Chat chat = two_tools();
  chat.parallel_tool_calls = true;
  const ChatPrompt prompt = plain_format().render(chat);
  const std::string city = R"({"city": "R\"}{o\\"})";
  const std::string text =
      "Let {me} look: 日本.\n{\"no\": 1}\n{\"name\": \"weather\", "
      "\"arguments\": " +
      city +
      "}\n{\"name\":\"weather_in\",\"arguments\":"
      "{\"days\":[1,{}]} }\n";
  Random random(5);
  for (int round = 0; round < 50; ++round) {
    const ChatAnswer answer = read_in(prompt, split(text, random));
    EXPECT_EQ(answer.content, "Let {me} look: 日本.\n{\"no\": 1}");
    ASSERT_EQ(answer.tool_calls.size(), 2U);
    EXPECT_EQ(answer.tool_calls[0], (ToolCall{"call_1", "weather", city}));
    EXPECT_EQ(answer.tool_calls[1], (ToolCall{"call_2", "weather_in", R"({"days":[1,{}]})"}));
  }
}

TEST(GenericTools, ArgumentsStream) {
  ChatParser parser(plain_format().render(weather_chat()).syntax, call_id);
  EXPECT_TRUE(parser.push("{\"name\": \"weather\", \"arg").empty());
  const ChatDelta first = parser.push("uments\": {\"ci");
  ASSERT_EQ(first.calls.size(), 1U);
  EXPECT_EQ(first.calls[0].id, "call_1");
  EXPECT_EQ(first.calls[0].name, "weather");
  EXPECT_EQ(first.calls[0].arguments, "{\"ci");
  const ChatDelta second = parser.push("ty\"");
  ASSERT_EQ(second.calls.size(), 1U);
  EXPECT_EQ(second.calls[0].name, "");
  EXPECT_EQ(second.calls[0].arguments, "ty\"");
  // The answer is cut here.
  EXPECT_TRUE(parser.end().empty());
  EXPECT_EQ(parser.answer().tool_calls[0].arguments, "{\"city\"");
}

TEST(GenericTools, WhatIsNoCallIsContent) {
  const ChatPrompt prompt = plain_format().render(two_tools());
  for (const char* text :
       {"", "  ", "Hello\n", "{", "{\"name\": \"weather", "{\"name\": \"weather\", \"arguments\": ",
        "{\"name\": \"other\", \"arguments\": {}}", "{\"name\": \"weather\", \"parameters\": {}}",
        "x {\"name\": \"weather\", \"arguments\": {}}", "{\n\n\"name\"\n\n\"", "\n \n{\"a\": 1}\n",
        "{\"name\": \"weather\", \"arguments\": }"}) {
    const ChatAnswer answer = read_in(prompt, {text});
    EXPECT_EQ(answer.content, text);
    EXPECT_TRUE(answer.tool_calls.empty());
  }
  Chat none = two_tools();
  none.tool_choice = ToolChoice::kNone;
  const std::string rome = R"({"name": "weather", "arguments": {"city": "Rome"}})";
  EXPECT_EQ(read_in(plain_format().render(none), {rome}).content, rome);
}

TEST(GenericTools, AnAnswerMayGoOnWithTheClientsText) {
  Chat chat = two_tools();
  chat.messages.push_back({.role = "assistant", .content = "Let me look: "});
  chat.add_generation_prompt = false;
  chat.continue_final_message = true;
  const std::string rome = R"({"name": "weather", "arguments": {"city": "Rome"}})";
  EXPECT_EQ(read_in(plain_format().render(chat), {rome}).content, rome);
  EXPECT_TRUE(follows(chat, rome.substr(0, 30)));
  EXPECT_EQ(read_in(plain_format().render(chat), {"here.\n", rome}).tool_calls.size(), 1U);
  chat.tool_choice = ToolChoice::kRequired;
  const auto refusal = [&](const ChatFormat& format) {
    return api_refusal([&] { (void)format.render(chat); });
  };
  constexpr const char* kRefusal = "tool_choice: 'tool_choice' requires a call of a tool, but";
  EXPECT_THAT(refusal(plain_format()), StartsWith(kRefusal));
  EXPECT_THAT(refusal(ChatFormat(real_tokenizer(), kToolTemplate, "", "")), StartsWith(kRefusal));
}

TEST(GenericTools, RefusesSchemasByPlace) {
  const auto refused = [](const char* parameters, ToolChoice choice) {
    Chat chat = two_tools();
    chat.tools[1].parameters = parse_json(parameters);
    chat.tool_choice = choice;
    return api_refusal([&] { (void)plain_format().render(chat); });
  };
  for (const ToolChoice choice : {ToolChoice::kAuto, ToolChoice::kRequired}) {
    EXPECT_THAT(refused(R"({"type": "thing"})", choice),
                StartsWith("tools.weather_in: 'tools.weather_in' cannot be followed"));
    EXPECT_THAT(refused(R"({"properties": {"a": {"maxLength": 99999}}})", choice),
                StartsWith("tools.weather_in.properties.a.maxLength:"));
    EXPECT_THAT(refused(R"({"$ref": "http://x/y"})", choice), StartsWith("tools.weather_in.$ref:"));
  }
}

constexpr std::string_view kMarks = "\" \n{}x1,:";

/// Texts that look somewhat like calls.
std::string odd_text(Random& random) {
  static const std::vector<std::string> kParts{"{\"name\": \"weather\", \"arguments\": ",
                                               "{\"name\":\"weather_in\",\"arguments\":",
                                               "{",
                                               "}",
                                               "\"",
                                               "\n",
                                               "\n\n",
                                               " ",
                                               "{\"city\": \"Rome\"}",
                                               "{\"days\": 3}",
                                               "{}",
                                               "[",
                                               "]",
                                               "\\",
                                               "\\\"",
                                               ",",
                                               ":",
                                               "\"name\"",
                                               "\"arguments\"",
                                               "weather",
                                               "_in",
                                               "text",
                                               "日",
                                               "12",
                                               "null",
                                               "<think>",
                                               "</think>"};
  std::string text;
  for (size_t i = 0, n = random.below(12); i < n; ++i) text += random.pick(kParts);
  return text;
}

/// Lines, many of them calls, with a fault somewhere or without.
std::string odd_lines(Random& random) {
  static const std::vector<std::string> kLines{
      R"({"name": "weather", "arguments": {"city": "Rome"}})",
      R"({"name":"weather","arguments":{"city":"\"{\\"}})",
      R"({"name": "weather_in", "arguments": {"days": 3}})",
      R"({"name": "weather_in", "arguments": {}})",
      R"({"name": "weather_in", "city": 1})",
      "Hello 日本"};
  std::string text;
  for (size_t i = 0, n = 1 + random.below(3); i < n; ++i) {
    if (i > 0) text += '\n';
    text += random.pick(kLines);
  }
  if (random.below(3) == 0) text.insert(random.below(20) % text.size(), 1, random.pick(kMarks));
  return text;
}

TEST(GenericTools, ReadsTheSameHoweverTheTextIsCut) {
  Chat by_schema = two_tools();
  by_schema.schema = parse_json(R"({"type": "array"})");
  const std::vector<ChatPrompt> prompts{plain_format().render(two_tools()),
                                        plain_format().render(by_schema)};
  size_t with_calls = 0;
  for (uint64_t i = 0; i < 4000; ++i) {
    Random random(1, "odd text", i);
    const std::string text = random.below(2) == 0 ? odd_text(random) : odd_lines(random);
    const ChatPrompt& prompt = random.pick(prompts);
    const ChatAnswer whole = read_in(prompt, {text});
    const ChatAnswer cut = read_in(prompt, split(text, random));
    ASSERT_EQ(cut.content, whole.content) << text;
    ASSERT_EQ(cut.reasoning, whole.reasoning) << text;
    ASSERT_EQ(cut.tool_calls, whole.tool_calls) << text;
    if (whole.tool_calls.empty() && text.find("<think>") == std::string::npos) {
      ASSERT_EQ(whole.content, text);
    }
    with_calls += whole.tool_calls.empty() ? 0 : 1;
  }
  EXPECT_GT(with_calls, 200U);
}

TEST(GenericTools, WhatFollowsTheGrammarIsReadWhole) {
  Chat chat = two_tools();
  chat.parallel_tool_calls = true;
  const ChatPrompt prompt = plain_format().render(chat);
  size_t with_calls = 0;
  for (uint64_t i = 0; i < 1000; ++i) {
    Random random(2, "odd lines", i);
    const std::string text = odd_lines(random);
    const ChatAnswer answer = read_in(prompt, {text});
    if (answer.tool_calls.empty() || !follows(*prompt.grammar, text)) continue;
    ++with_calls;
    for (const ToolCall& call : answer.tool_calls) {
      const Json arguments = parse_json(call.arguments);
      ASSERT_EQ(arguments.contains("city"), call.name == "weather") << text;
    }
  }
  EXPECT_GT(with_calls, 100U);
}

}  // namespace
}  // namespace restkv::server
