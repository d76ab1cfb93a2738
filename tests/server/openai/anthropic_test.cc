// Anthropic's Messages API: requests, whole answers and streams.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "server/openai/anthropic_form.h"
#include "server/openai/anthropic_request.h"
#include "server/openai/events.h"
#include "server/openai/support.h"

namespace restkv::server {
namespace {

using ::testing::ElementsAre;
using ::testing::StartsWith;

ChatRequest request(const std::string& body) {
  return parse_anthropic_request(parse_body(body), small_limits());
}
/// With more fields.
ChatRequest asked(const std::string& fields) {
  return request(R"({"max_tokens": 9, "messages": [{"role": "user", "content": "hi"}])" + fields +
                 "}");
}

TEST(AnthropicRequest, ReadsMessages) {
  const ChatRequest result = request(R"({"max_tokens": 9,
    "system": [{"type": "text", "text": "a", "cache_control": {"type": "ephemeral"}},
               {"type": "text", "text": "b"}],
    "messages": [
      {"role": "user", "content": [{"type": "text", "text": "c"}, {"type": "text", "text": "d"}]},
      {"role": "assistant", "content": [
        {"type": "thinking", "thinking": "hm", "signature": "x"},
        {"type": "redacted_thinking", "data": "x"}, {"type": "text", "text": "wait"},
        {"type": "tool_use", "id": "t1", "name": "f", "input": {"x": 1}},
        {"type": "tool_use", "id": "t2", "name": "g", "input": {}}]},
      {"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "t1", "content": "1"},
        {"type": "tool_result", "tool_use_id": "t2", "is_error": true,
         "content": [{"type": "text", "text": "2"}]},
        {"type": "text", "text": "go on"}]},
      {"role": "system", "content": "s"},
      {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t3"}]}]})");
  EXPECT_THAT(
      result.chat.messages,
      ElementsAre(
          Message{.role = "system", .content = "a\nb"}, Message{.role = "user", .content = "c\nd"},
          Message{.role = "assistant",
                  .content = "wait",
                  .reasoning = "hm",
                  .tool_calls = {{"t1", "f", R"({"x":1})"}, {"t2", "g", "{}"}}},
          Message{.role = "tool", .content = "1", .name = "f", .tool_call_id = "t1"},
          Message{.role = "tool", .content = "2", .name = "g", .tool_call_id = "t2"},
          Message{.role = "user", .content = "go on"}, Message{.role = "system", .content = "s"},
          Message{.role = "tool", .tool_call_id = "t3"}));
  EXPECT_TRUE(result.chat.add_generation_prompt);
  EXPECT_FALSE(result.chat.continue_final_message);
}

TEST(AnthropicRequest, GoesOnWithTextOfTheAssistant) {
  const Chat chat = request(R"({"max_tokens": 1, "messages": [{"role": "user", "content": "a"},
                                {"role": "assistant", "content": "The"}]})")
                        .chat;
  EXPECT_TRUE(chat.continue_final_message);
  EXPECT_FALSE(chat.add_generation_prompt);
}

TEST(AnthropicRequest, ReadsEveryField) {
  const ChatRequest result = asked(R"(, "model": "m", "stream": true, "temperature": 0.5,
    "top_p": 0.25, "top_k": 7, "stop_sequences": ["x", "y"], "metadata": {"user_id": "u"},
    "system": "s", "thinking": {"type": "enabled", "budget_tokens": 1024}, "unknown": 1,
    "tools": [{"name": "f", "description": "d", "input_schema": {"type": "object"}},
              {"type": "custom", "name": "g", "input_schema": {}}],
    "tool_choice": {"type": "tool", "name": "g", "disable_parallel_tool_use": true},
    "output_config": {"effort": "high", "format": {"type": "json_schema",
                                                   "schema": {"type": "array"}}},
    "restkv": {"budget": 64})");
  const AnswerOptions& answer = result.answer;
  EXPECT_TRUE(answer.stream);
  EXPECT_EQ(answer.model, "m");
  EXPECT_EQ(answer.user, "u");
  EXPECT_EQ(answer.generation.max_tokens, 9U);
  EXPECT_EQ(answer.generation.sampling.temperature, 0.5F);
  EXPECT_EQ(answer.generation.sampling.top_p, 0.25F);
  EXPECT_EQ(answer.generation.sampling.top_k, 7);
  EXPECT_THAT(answer.generation.stop, ElementsAre("x", "y"));
  EXPECT_EQ(answer.session->options.compression.budget, 64);
  const Chat& chat = result.chat;
  ASSERT_EQ(chat.tools.size(), 1U) << "only one may be called";
  EXPECT_EQ(chat.tools[0].name, "g");
  EXPECT_EQ(chat.tool_choice, ToolChoice::kRequired);
  EXPECT_EQ(chat.parallel_tool_calls, false);
  EXPECT_EQ(chat.schema->dump(), R"({"type":"array"})");
  EXPECT_EQ(chat.template_variables.dump(),
            R"({"enable_thinking":true,"reasoning_effort":"high"})");
}

TEST(AnthropicRequest, ReadsChoicesOfTools) {
  const std::string tools = R"(, "tools": [{"name": "f", "input_schema": {}}], "tool_choice": )";
  const auto choice = [&](const char* word) {
    return asked(tools + fmt::format(R"({{"type": "{}"}})", word)).chat.tool_choice;
  };
  EXPECT_EQ(choice("auto"), ToolChoice::kAuto);
  EXPECT_EQ(choice("any"), ToolChoice::kRequired);
  EXPECT_EQ(choice("none"), ToolChoice::kNone);
  EXPECT_EQ(asked(R"(, "thinking": {"type": "disabled"})").chat.template_variables.dump(),
            R"({"enable_thinking":false})");
  EXPECT_EQ(asked(R"(, "thinking": {"type": "adaptive"})").chat.template_variables.dump(), "{}");
}

TEST(AnthropicRequest, TokensAreCountedWithoutALimit) {
  const Chat chat = parse_anthropic_count(
      parse_body(R"({"system": "s", "messages": [{"role": "user", "content": "hi"}],
                     "tools": [{"name": "f", "input_schema": {}}]})"),
      small_limits());
  EXPECT_EQ(chat.messages.size(), 2U);
  EXPECT_EQ(chat.tools.size(), 1U);
  EXPECT_EQ(anthropic_count_json(7).dump(), R"({"input_tokens":7})");
}

TEST(AnthropicRequest, RefusesByName) {
  struct Refused {
    const char* body;
    const char* message;  // how "param: message" begins
  };
  const std::vector<Refused> bodies{
      {R"({"max_tokens": 5})", "messages: 'messages' is missing"},
      {R"({"max_tokens": 5, "messages": []})", "messages: 'messages' has 0 items; expected 1 to"},
      {R"({"messages": [{"role": "user", "content": "a"}]})",
       "max_tokens: 'max_tokens' is missing; expected the most tokens that the answer may have"},
      {R"({"messages": [{"role": "tool", "content": "a"}]})",
       "messages[0].role: 'messages[0].role' is \"tool\"; expected \"user\", \"assistant\" or"},
      {R"({"messages": [{"role": "user"}]})", "messages[0].content: 'messages[0].content' is miss"},
      {R"({"messages": [{"role": "user", "content": 5}]})",
       "messages[0].content: 'messages[0].content' is 5; expected a text or a list of parts"},
      {R"({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]})",
       "messages[0].content[0].type: 'messages[0].content[0].type' is \"image\"; expected "
       "\"text\" or \"tool_result\": this model reads nothing else"},
      {R"({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t",
           "content": [{"type": "image"}]}]}]})",
       "messages[0].content[0].content[0].type: 'messages[0].content[0].content[0].type' is "
       "\"image\"; expected \"text\": this model reads nothing else"},
      {R"({"messages": [{"role": "user", "content": [{"type": "tool_result", "content": "a"}]}]})",
       "messages[0].content[0].tool_use_id: 'messages[0].content[0].tool_use_id' is missing"},
      {R"({"messages": [{"role": "user", "content": [{"type": "tool_use"}]}]})",
       "messages[0].content[0].type: 'messages[0].content[0].type' is \"tool_use\"; expected"},
      {R"({"messages": [{"role": "assistant", "content": [{"type": "tool_result"}]}]})",
       "messages[0].content[0].type: 'messages[0].content[0].type' is \"tool_result\"; expected"},
      {R"({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a",
           "name": "f", "input": "x"}]}]})",
       "messages[0].content[0].input: 'messages[0].content[0].input' is \"x\"; expected an object"},
      {R"({"messages": [{"role": "assistant", "content": [{"type": "tool_use", "id": "a",
           "name": "f", "input": {}}]}]})",
       "messages: 'messages' ends with a 'tool_use'; add a message of the user with its"},
      {R"({"messages": [{"role": "assistant", "content": [{"type": "thinking"}]}]})",
       "messages[0].content[0].thinking: 'messages[0].content[0].thinking' is missing"}};
  for (const auto& [body, message] : bodies) {
    SCOPED_TRACE(body);
    EXPECT_THAT(api_refusal([&] { (void)request(body); }), StartsWith(message));
  }
  const std::vector<Refused> fields{
      {R"(, "system": 5)", "system: 'system' is 5; expected a text or a list of parts"},
      {R"(, "system": [{"type": "image"}])", "system[0].type: 'system[0].type' is \"image\""},
      {R"(, "n": 2)", "n: 'n' is 2; expected 1: a message is one answer"},
      {R"(, "stream": "yes")", "stream: 'stream' is \"yes\"; expected true or false"},
      {R"(, "temperature": "hot")", "temperature: 'temperature' is \"hot\"; expected a number"},
      {R"(, "top_k": 0.5)", "top_k: 'top_k' is 0.5; expected a whole number"},
      {R"(, "stop_sequences": [""])",
       "stop_sequences[0]: 'stop_sequences[0]' is \"\"; expected a text of 1 to 1024 bytes"},
      {R"(, "tools": [{"type": "web_search_20250305", "name": "w"}])",
       "tools[0].type: 'tools[0].type' is \"web_search_20250305\"; expected \"custom\": this "
       "server runs no tools of its own"},
      {R"(, "tools": [{"name": "f"}])",
       "tools[0].input_schema: 'tools[0].input_schema' is missing; expected a JSON schema"},
      {R"(, "tools": [{"name": "f", "input_schema": 5}])",
       "tools[0].input_schema: 'tools[0].input_schema' is 5; expected an object"},
      {R"(, "tool_choice": "auto")", "tool_choice: 'tool_choice' is \"auto\"; expected an object"},
      {R"(, "tool_choice": {"type": "all"})",
       "tool_choice.type: 'tool_choice.type' is \"all\"; expected \"auto\", \"any\", \"tool\" or"},
      {R"(, "tool_choice": {"type": "any"})",
       "tool_choice: 'tool_choice' is {\"type\":\"any\"}; "
       "expected 'tools' beside it"},
      {R"(, "tool_choice": {"type": "tool", "name": "f"})",
       "tool_choice.name: 'tool_choice.name' is \"f\"; expected the name of a function in 'tools'"},
      {R"(, "tool_choice": {"type": "auto", "disable_parallel_tool_use": 1})",
       "tool_choice.disable_parallel_tool_use: 'tool_choice.disable_parallel_tool_use' is 1"},
      {R"(, "thinking": {"type": "much"})", "thinking.type: 'thinking.type' is \"much\"; expected"},
      {R"(, "thinking": {"type": "enabled", "budget_tokens": -1})",
       "thinking.budget_tokens: 'thinking.budget_tokens' is -1; expected a whole number"},
      {R"(, "output_config": {"format": {"type": "xml"}})",
       "output_config.format.type: 'output_config.format.type' is \"xml\"; expected"},
      {R"(, "metadata": {"user_id": 5})", "metadata.user_id: 'metadata.user_id' is 5; expected a"},
      {R"(, "document": "d", "restkv": {})", "restkv: 'restkv' has no effect beside 'document'"}};
  for (const auto& [more, message] : fields) {
    SCOPED_TRACE(more);
    EXPECT_THAT(api_refusal([&] { (void)asked(more); }), StartsWith(message));
  }
}

const AnswerStamp kStamp{.id = "msg_1", .created = 1700000000, .model = "m"};
const AnswerTotals kTotals{
    .counts = {.prompt = 10, .cached = 4, .completion = 3},
    .cache = CacheReport{
        .kept = 5, .dropped = 8, .kv_bytes = 640, .full_kv_bytes = 1664, .compress_ms = 1.5}};
constexpr const char* kHead =
    R"({"id":"msg_1","type":"message","role":"assistant","model":"m","content":)";
constexpr const char* kUsage =
    R"("usage":{"input_tokens":6,"cache_creation_input_tokens":0,"cache_read_input_tokens":4,)"
    R"("output_tokens":3},"restkv":{"kept":5,"dropped":8,"kv_bytes":640,"full_kv_bytes":1664,)"
    R"("compress_ms":1.5}})";

TEST(AnthropicForm, WholeIsAsAnthropicWritesIt) {
  const AnthropicForm form(kStamp);
  const ChatAnswer answer{
      .content = "h€", .reasoning = "hm", .tool_calls = {{"toolu_1", "f", R"({"x": 1})"}}};
  EXPECT_EQ(form.whole({&answer, 1}, kTotals),
            std::string(kHead) +
                R"([{"type":"thinking","thinking":"hm","signature":""},)"
                R"({"type":"text","text":"h€"},)"
                R"({"type":"tool_use","id":"toolu_1","name":"f","input":{"x":1}}],)"
                R"("stop_reason":"tool_use","stop_sequence":null,)" +
                kUsage);
  const ChatAnswer cut{.tool_calls = {{"toolu_1", "f", R"({"x": )"}, {"toolu_2", "g", ""}},
                       .finish_reason = FinishReason::kLength};
  EXPECT_EQ(form.whole({&cut, 1}, kTotals),
            std::string(kHead) +
                R"([{"type":"tool_use","id":"toolu_1","name":"f",)"
                R"("input":{"arguments":"{\"x\": "}},)"
                R"({"type":"tool_use","id":"toolu_2","name":"g","input":{}}],)"
                R"("stop_reason":"max_tokens","stop_sequence":null,)" +
                kUsage);
}

/// The data of each event.
std::vector<std::string> shown_events(const std::string& stream) {
  std::vector<std::string> list;
  for (const NamedEvent& event : named_events(stream)) list.push_back(event.data.dump());
  return list;
}

TEST(AnthropicForm, StreamIsAsAnthropicWritesIt) {
  AnthropicForm form(kStamp);
  std::string text = form.begin({.prompt = 10, .cached = 4});
  text += form.write(0, {.reasoning = "hm"}, {});
  text += form.write(0, {.content = "h\xe2\x82"}, {});
  text += form.write(0, {.content = "\xac"}, {});
  text += form.write(0, {.calls = {{0, "toolu_1", "f", "{"}}}, {});
  text += form.write(0, {.calls = {{0, "toolu_1", "", "}"}}}, {});
  text += form.write(0, {.calls = {{1, "toolu_2", "g", ""}}}, {});
  text += form.finish(0, FinishReason::kStop, kTotals);
  const auto start = [](int index, const char* block) {
    return fmt::format(R"({{"type":"content_block_start","index":{},"content_block":{}}})", index,
                       block);
  };
  const auto delta = [](int index, const char* piece) {
    return fmt::format(R"({{"type":"content_block_delta","index":{},"delta":{}}})", index, piece);
  };
  const auto stop = [](int index) {
    return fmt::format(R"({{"type":"content_block_stop","index":{}}})", index);
  };
  EXPECT_THAT(
      shown_events(text),
      ElementsAre(
          std::string(R"({"type":"message_start","message":)") + kHead +
              R"([],"stop_reason":null,"stop_sequence":null,"usage":{"input_tokens":6,)"
              R"("cache_creation_input_tokens":0,"cache_read_input_tokens":4,"output_tokens":0}}})",
          start(0, R"({"type":"thinking","thinking":"","signature":""})"),
          delta(0, R"({"type":"thinking_delta","thinking":"hm"})"), stop(0),
          start(1, R"({"type":"text","text":""})"), delta(1, R"({"type":"text_delta","text":"h"})"),
          delta(1, R"({"type":"text_delta","text":"€"})"), stop(1),
          start(2, R"({"type":"tool_use","id":"toolu_1","name":"f","input":{}})"),
          delta(2, R"({"type":"input_json_delta","partial_json":"{"})"),
          delta(2, R"({"type":"input_json_delta","partial_json":"}"})"), stop(2),
          start(3, R"({"type":"tool_use","id":"toolu_2","name":"g","input":{}})"), stop(3),
          std::string(R"({"type":"message_delta","delta":{"stop_reason":"tool_use",)"
                      R"("stop_sequence":null},)") +
              kUsage,
          R"({"type":"message_stop"})"));
}

TEST(AnthropicForm, SaysWhyItEnds) {
  const auto reason = [](FinishReason finish, const std::string& word) {
    AnswerTotals totals = kTotals;
    totals.stopping_word = word;
    AnthropicForm form(kStamp);
    std::string text = form.begin({});
    text += form.write(0, {.content = "a"}, {});
    text += form.finish(0, finish, totals);
    const auto events = named_events(text);
    const Json delta = events[events.size() - 2].data.at("delta");
    const ChatAnswer answer{.content = "a", .finish_reason = finish};
    const Json whole = parse_json(form.whole({&answer, 1}, totals));
    for (const char* name : {"stop_reason", "stop_sequence"}) {
      EXPECT_EQ(whole.at(name), delta.at(name));
    }
    return delta.dump();
  };
  EXPECT_EQ(reason(FinishReason::kStop, ""), R"({"stop_reason":"end_turn","stop_sequence":null})");
  EXPECT_EQ(reason(FinishReason::kStop, "X"),
            R"({"stop_reason":"stop_sequence","stop_sequence":"X"})");
  EXPECT_EQ(reason(FinishReason::kLength, ""),
            R"({"stop_reason":"max_tokens","stop_sequence":null})");
}

TEST(AnthropicForm, ErrorsAreAsAnthropicWritesThem) {
  EXPECT_EQ(anthropic_error(HttpError(400, "bad")),
            R"({"type":"error","error":{"type":"invalid_request_error","message":"bad"}})");
  const auto type = [](int status) {
    return parse_json(anthropic_error(HttpError(status, "x"))).at("error").at("type").text();
  };
  EXPECT_EQ(type(401), "authentication_error");
  EXPECT_EQ(type(404), "not_found_error");
  EXPECT_EQ(type(413), "request_too_large");
  EXPECT_EQ(type(429), "rate_limit_error");
  EXPECT_EQ(type(500), "api_error");
  EXPECT_EQ(type(503), "overloaded_error");
  AnthropicForm form(kStamp);
  EXPECT_EQ(form.fail(HttpError(500, "x")),
            "event: error\n"
            R"(data: {"type":"error","error":{"type":"api_error","message":"x"}})"
            "\n\n");
}

TEST(AnthropicForm, JoinsToTheWholeForAnySplits) {
  const std::string content = "\u4f60\u597d, w\u00f6rld \U0001F600";
  const std::string thinking = "\u00e4\u00f6 \U0001F914";
  const std::string arguments = R"({"q": "na\u00efve"})";
  Random random(3);
  for (int round = 0; round < 200; ++round) {
    AnthropicForm form(kStamp);
    std::string text = form.begin({});
    const auto split = [&](const std::string& whole, auto&& write) {
      for (size_t at = 0; at < whole.size();) {
        const size_t size = std::min(1 + random.below(5), whole.size() - at);
        write(whole.substr(at, size));
        at += size;
      }
    };
    split(thinking, [&](const std::string& s) { text += form.write(0, {.reasoning = s}, {}); });
    split(content, [&](const std::string& s) { text += form.write(0, {.content = s}, {}); });
    text += form.write(0, {.calls = {{0, "t", "f", ""}}}, {});
    split(arguments, [&](const std::string& s) {
      text += form.write(0, {.calls = {{0, "t", "", s}}}, {});
    });
    text += form.finish(0, FinishReason::kStop, kTotals);
    std::vector<std::string> blocks;
    for (const NamedEvent& event : named_events(text)) {
      if (event.name == "content_block_start") {
        EXPECT_EQ(event.data.at("index"), blocks.size());
        blocks.emplace_back();
      } else if (event.name == "content_block_delta") {
        EXPECT_EQ(event.data.at("index"), blocks.size() - 1);
        const Json& delta = event.data.at("delta");
        for (const char* name : {"thinking", "text", "partial_json"}) {
          blocks.back() += delta.value(name, "");
        }
      }
    }
    EXPECT_THAT(blocks, ElementsAre(thinking, content, arguments));
  }
}

}  // namespace
}  // namespace restkv::server
