// OpenAI's Responses API: requests, whole answers and streams.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "server/openai/events.h"
#include "server/openai/responses_form.h"
#include "server/openai/responses_request.h"
#include "server/openai/support.h"

namespace restkv::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

ResponsesRequest responses(const std::string& body) {
  return parse_responses_request(parse_body(body), small_limits());
}
/// With more fields.
ResponsesRequest asked(const std::string& fields) {
  return responses(R"({"input": "hi")" + fields + "}");
}

TEST(ResponsesRequest, ATextIsAMessageOfTheUser) {
  const ResponsesRequest result = asked(R"(, "instructions": "be kind", "max_output_tokens": 7)");
  EXPECT_THAT(result.request.chat.messages,
              ElementsAre(Message{.role = "system", .content = "be kind"},
                          Message{.role = "user", .content = "hi"}));
  EXPECT_EQ(result.request.answer.generation.max_tokens, 7U);
  EXPECT_TRUE(result.request.answer.has_max_tokens);
  EXPECT_EQ(asked("").request.answer.generation.max_tokens, 512U);
}

TEST(ResponsesRequest, ItemsAreMessages) {
  const ResponsesRequest result = responses(R"({"input": [
    {"role": "developer", "content": "d"},
    {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "a"},
                                                    {"type": "input_text", "text": "b"}]},
    {"type": "reasoning", "id": "rs_1", "summary": []},
    {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed",
     "content": [{"type": "output_text", "text": "wait", "annotations": []}]},
    {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "f", "arguments": "{}"},
    {"type": "function_call", "call_id": "c2", "name": "g", "arguments": "{\"x\": 1}"},
    {"type": "function_call_output", "call_id": "c2", "output": "2"},
    {"type": "function_call_output", "call_id": "c1",
     "output": [{"type": "input_text", "text": "1"}]},
    {"type": "function_call", "call_id": "c3", "name": "h", "arguments": "{}"}]})");
  EXPECT_THAT(
      result.request.chat.messages,
      ElementsAre(Message{.role = "developer", .content = "d"},
                  Message{.role = "user", .content = "a\nb"},
                  Message{.role = "assistant",
                          .content = "wait",
                          .tool_calls = {{"c1", "f", "{}"}, {"c2", "g", "{\"x\": 1}"}}},
                  Message{.role = "tool", .content = "2", .name = "g", .tool_call_id = "c2"},
                  Message{.role = "tool", .content = "1", .name = "f", .tool_call_id = "c1"},
                  Message{.role = "assistant", .tool_calls = {{"c3", "h", "{}"}}}));
}

TEST(ResponsesRequest, ReadsEveryField) {
  const ResponsesRequest result = asked(R"(, "model": "m", "stream": true, "temperature": 0.5,
    "top_p": 0.25, "seed": 3, "store": true, "metadata": {"k": "v"}, "user": "u",
    "parallel_tool_calls": true, "reasoning": {"effort": "low", "summary": "auto"},
    "include": ["message.output_text.logprobs", "reasoning.encrypted_content"], "top_logprobs": 2,
    "truncation": "auto", "unknown": [1], "restkv": {"budget": 64},
    "tools": [{"type": "function", "name": "f", "description": "d", "strict": true,
               "parameters": {"type": "object"}}, {"type": "function", "name": "g"}],
    "tool_choice": {"type": "function", "name": "f"},
    "text": {"verbosity": "low", "format": {"type": "json_schema", "name": "n", "strict": true,
             "schema": {"type": "array"}}})");
  const AnswerOptions& answer = result.request.answer;
  EXPECT_TRUE(answer.stream);
  EXPECT_EQ(answer.model, "m");
  EXPECT_EQ(answer.user, "u");
  EXPECT_EQ(answer.generation.sampling.temperature, 0.5F);
  EXPECT_EQ(answer.generation.sampling.seed, 3U);
  EXPECT_EQ(answer.generation.logprobs, 2U);
  EXPECT_EQ(answer.session->options.compression.budget, 64);
  const Chat& chat = result.request.chat;
  ASSERT_EQ(chat.tools.size(), 1U);
  EXPECT_EQ(chat.tools[0].name, "f");
  EXPECT_EQ(chat.tools[0].description, "d");
  EXPECT_EQ(chat.tool_choice, ToolChoice::kRequired);
  EXPECT_EQ(chat.parallel_tool_calls, true);
  EXPECT_EQ(chat.schema->dump(), R"({"type":"array"})");
  EXPECT_EQ(chat.template_variables.dump(), R"({"reasoning_effort":"low"})");
  EXPECT_EQ(result.echo.dump(),
            R"({"instructions":null,"max_output_tokens":null,"metadata":{"k":"v"},)"
            R"("parallel_tool_calls":true,"previous_response_id":null,)"
            R"("reasoning":{"effort":"low","summary":null},"store":false,"temperature":0.5,)"
            R"("text":{"format":{"type":"json_schema","name":"n","strict":true,)"
            R"("schema":{"type":"array"}},"verbosity":"low"},)"
            R"("tool_choice":{"type":"function","name":"f"},)"
            R"("tools":[{"type":"function","name":"f","description":"d",)"
            R"("parameters":{"type":"object"},"strict":true},{"type":"function","name":"g",)"
            R"("description":"","parameters":{},"strict":null}],"top_logprobs":2,"top_p":0.25,)"
            R"("truncation":"disabled","user":"u"})");
}

TEST(ResponsesRequest, DefaultsAreRepeatedAsTheyAreUsed) {
  const Json echo = asked("").echo;
  EXPECT_EQ(echo.at("temperature").dump(), "0.8");
  EXPECT_EQ(echo.at("text").dump(), R"({"format":{"type":"text"}})");
  EXPECT_EQ(echo.at("tool_choice"), "auto");
}

TEST(ResponsesRequest, ToolsMayBeAllowedOrForbidden) {
  const std::string tools = R"(, "tools": [{"type": "function", "name": "f"},
    {"type": "function", "name": "g"}, {"type": "function", "name": "h"}], "tool_choice": )";
  const Chat some = asked(tools + R"({"type": "allowed_tools", "mode": "required", "tools": [
    {"type": "function", "name": "g"}, {"type": "function", "name": "f"}]})")
                        .request.chat;
  EXPECT_EQ(some.tools.size(), 2U);
  EXPECT_EQ(some.tool_choice, ToolChoice::kRequired);
  EXPECT_EQ(asked(tools + "\"none\"").request.chat.tool_choice, ToolChoice::kNone);
  EXPECT_EQ(asked(tools + "\"auto\"").request.chat.tool_choice, ToolChoice::kAuto);
  EXPECT_EQ(asked(tools + "\"required\"").request.chat.tool_choice, ToolChoice::kRequired);
  EXPECT_EQ(asked(R"(, "reasoning": {"effort": "none"})").request.chat.template_variables.dump(),
            R"({"enable_thinking":false})");
  EXPECT_EQ(asked(R"(, "text": {"format": {"type": "json_object"}})").request.chat.schema->dump(),
            R"({"type":"object"})");
}

TEST(ResponsesRequest, RefusesByName) {
  struct Refused {
    const char* body;
    const char* message;  // how "param: message" begins
  };
  const std::vector<Refused> list{
      {"{}", "input: 'input' is missing; expected a text or a list of items"},
      {R"({"input": 5})", "input: 'input' is 5; expected a text or a list of items"},
      {R"({"input": []})", "input: 'input' has 0 items; expected 1 to 10000"},
      {R"({"input": [5]})", "input[0]: 'input[0]' is 5; expected an object"},
      {R"({"input": [{"type": "reasoning"}]})",
       "input: 'input' has items of reasoning only; add a message"},
      {R"({"input": [{"type": "item_reference", "id": "x"}]})",
       "input[0].type: 'input[0].type' is \"item_reference\"; expected the item itself"},
      {R"({"input": [{"type": "computer_call"}]})",
       "input[0].type: 'input[0].type' is \"computer_call\"; expected \"message\","},
      {R"({"input": [{"type": "message", "content": "a"}]})",
       "input[0].role: 'input[0].role' is missing"},
      {R"({"input": [{"role": "tool", "content": "a"}]})",
       "input[0].role: 'input[0].role' is \"tool\"; expected one of system, developer, user"},
      {R"({"input": [{"role": "user"}]})", "input[0].content: 'input[0].content' is missing"},
      {R"({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]})",
       "input[0].content[0].type: 'input[0].content[0].type' is \"input_image\"; expected "
       "\"input_text\": this model reads nothing else"},
      {R"({"input": [{"type": "function_call", "call_id": "c", "name": "f"}]})",
       "input[0].arguments: 'input[0].arguments' is missing"},
      {R"({"input": [{"type": "function_call_output", "output": "f"}]})",
       "input[0].call_id: 'input[0].call_id' is missing"},
      {R"({"input": "a", "instructions": 1})",
       "instructions: 'instructions' is 1; expected a text"},
      {R"({"input": "a", "previous_response_id": "resp_1"})",
       "previous_response_id: 'previous_response_id' is not supported: this server keeps no "
       "responses; send the whole conversation as 'input'"},
      {R"({"input": "a", "conversation": "c"})", "conversation: 'conversation' is not supported"},
      {R"({"input": "a", "prompt": {"id": "p"}})", "prompt: 'prompt' is not supported"},
      {R"({"input": "a", "background": true})", "background: 'background' is true; expected false"},
      {R"({"input": "a", "store": 1})", "store: 'store' is 1; expected true or false"},
      {R"({"input": "a", "n": 2})", "n: 'n' is 2; expected 1: a response is one answer"},
      {R"({"input": "a", "max_output_tokens": 0})",
       "max_output_tokens: 'max_output_tokens' is 0; expected a whole number from 1 to 4096"},
      {R"({"input": "a", "tools": [{"type": "web_search"}]})",
       "tools[0].type: 'tools[0].type' is \"web_search\"; expected \"function\": this server runs "
       "no tools of its own"},
      {R"({"input": "a", "tools": [{"type": "function", "name": ""}]})",
       "tools[0].name: 'tools[0].name' is \"\"; expected 1 to 64 letters"},
      {R"({"input": "a", "tools": [{"type": "function", "name": "f", "strict": 1}]})",
       "tools[0].strict: 'tools[0].strict' is 1; expected true or false"},
      {R"({"input": "a", "tool_choice": "required"})",
       "tool_choice: 'tool_choice' is \"required\"; expected 'tools' beside it"},
      {R"({"input": "a", "tool_choice": {"type": "function", "name": "f"}})",
       "tool_choice.name: 'tool_choice.name' is \"f\"; expected the name of a function"},
      {R"({"input": "a", "tool_choice": {"type": "allowed_tools", "tools": []}})",
       "tool_choice: 'tool_choice' is {\"type\":\"allowed_tools\",\"tools\":[]}; expected 'tools' "
       "beside it"},
      {R"({"input": "a", "tool_choice": {"type": "file_search"}})",
       "tool_choice: 'tool_choice' is"},
      {R"({"input": "a", "text": {"format": {"type": "xml"}}})",
       "text.format.type: 'text.format.type' is \"xml\"; expected \"text\", \"json_object\" or"},
      {R"({"input": "a", "text": {"format": {"type": "json_schema"}}})",
       "text.format.schema: 'text.format.schema' is missing"},
      {R"({"input": "a", "reasoning": "high"})",
       "reasoning: 'reasoning' is \"high\"; expected an object"},
      {R"({"input": "a", "reasoning": {"effort": 3}})",
       "reasoning.effort: 'reasoning.effort' is 3; expected a text"},
      {R"({"input": "a", "include": "x"})", "include: 'include' is \"x\"; expected a list"},
      {R"({"input": "a", "include": [1]})", "include[0]: 'include[0]' is 1; expected a text"},
      {R"({"input": "a", "top_logprobs": 2})",
       "top_logprobs: 'top_logprobs' is 2; expected \"mess"},
      {R"({"input": "a", "truncation": "x"})",
       "truncation: 'truncation' is \"x\"; expected \"auto\" or \"disabled\""},
      {R"({"input": "a", "metadata": {"a": 1}})", "metadata.a: 'metadata.a' is 1; expected a text"},
      {R"({"input": "a", "document": "d", "restkv": {}})", "restkv: 'restkv' has no effect"}};
  for (const auto& [body, message] : list) {
    SCOPED_TRACE(body);
    EXPECT_THAT(api_refusal([&] { (void)responses(body); }), StartsWith(message));
  }
}

const AnswerStamp kStamp{.id = "resp_1", .created = 1700000000, .model = "m"};
const AnswerTotals kTotals{
    .counts = {.prompt = 10, .cached = 4, .completion = 3},
    .cache = CacheReport{
        .kept = 5, .dropped = 8, .kv_bytes = 640, .full_kv_bytes = 1664, .compress_ms = 1.5}};
constexpr const char* kEnd =
    R"("store":false,"usage":{"input_tokens":10,)"
    R"("input_tokens_details":{"cached_tokens":4,"cache_write_tokens":0},"output_tokens":3,)"
    R"("output_tokens_details":{"reasoning_tokens":0},"total_tokens":13},)"
    R"("restkv":{"kept":5,"dropped":8,"kv_bytes":640,"full_kv_bytes":1664,"compress_ms":1.5}})";
constexpr const char* kReasoning =
    R"({"id":"rs_1_0","type":"reasoning","status":"completed","summary":[],)"
    R"("content":[{"type":"reasoning_text","text":"hm"}]})";
constexpr const char* kText =
    R"({"id":"msg_1_1","type":"message","status":"completed","role":"assistant",)"
    R"("content":[{"type":"output_text","text":"h€","annotations":[],"logprobs":[]}]})";
constexpr const char* kCall =
    R"({"id":"fc_1_2","type":"function_call","status":"completed","call_id":"call_1","name":"f",)"
    R"("arguments":"{}"})";

std::string head(const char* status, const char* details) {
  return fmt::format(R"({{"id":"resp_1","object":"response","created_at":1700000000,)"
                     R"("status":"{}","error":null,"incomplete_details":{},"model":"m",)",
                     status, details);
}
Json echo() { return Json::object({{"store", false}}); }

TEST(ResponsesForm, WholeIsAsOpenAiWritesIt) {
  const ResponsesForm form(kStamp, echo(), false);
  const ChatAnswer answer{
      .content = "h€", .reasoning = "hm", .tool_calls = {{"call_1", "f", "{}"}}};
  EXPECT_EQ(form.whole({&answer, 1}, kTotals),
            head("completed", "null") +
                fmt::format(R"("output":[{},{},{}],)", kReasoning, kText, kCall) + kEnd);
  const ChatAnswer cut{.content = "h", .finish_reason = FinishReason::kLength};
  EXPECT_EQ(form.whole({&cut, 1}, kTotals),
            head("incomplete", R"({"reason":"max_output_tokens"})") +
                R"("output":[{"id":"msg_1_0","type":"message","status":"incomplete",)"
                R"("role":"assistant","content":[{"type":"output_text","text":"h",)"
                R"("annotations":[],"logprobs":[]}]}],)" +
                kEnd);
}

/// "TYPE {fields}" of each event, without its number.
std::vector<std::string> shown_events(const std::string& stream) {
  std::vector<std::string> list;
  for (NamedEvent& event : named_events(stream)) {
    EXPECT_EQ(event.data.at("sequence_number"), list.size());
    event.data.erase("type");
    event.data.erase("sequence_number");
    list.push_back(event.name + " " + event.data.dump());
  }
  return list;
}

TEST(ResponsesForm, StreamIsAsOpenAiWritesIt) {
  ResponsesForm form(kStamp, echo(), false);
  std::string text = form.begin({.prompt = 10, .cached = 4});
  text += form.write(0, {.reasoning = "hm"}, {});
  text += form.write(0, {.content = "h\xe2\x82"}, {});
  text += form.write(0, {.content = "\xac"}, {});
  text += form.write(0, {.calls = {{0, "call_1", "f", ""}}}, {});
  text += form.write(0, {.calls = {{0, "call_1", "", "{}"}}}, {});
  text += form.finish(0, FinishReason::kStop, kTotals);
  const std::string begun = R"({"response":)" + head("in_progress", "null") +
                            R"("output":[],"store":false,"usage":null}})";
  const auto part = [](const char* id, int index, const std::string& fields) {
    return fmt::format(R"( {{"item_id":"{}","output_index":{},"content_index":0,{}}})", id, index,
                       fields);
  };
  const auto output_text = [](const char* t) {
    return fmt::format(
        R"("part":{{"type":"output_text","text":"{}","annotations":[],"logprobs":[]}})", t);
  };
  EXPECT_THAT(
      shown_events(text),
      ElementsAre(
          "response.created " + begun, "response.in_progress " + begun,
          R"(response.output_item.added {"output_index":0,"item":{"id":"rs_1_0",)"
          R"("type":"reasoning","status":"in_progress","summary":[],"content":[]}})",
          "response.content_part.added" +
              part("rs_1_0", 0, R"("part":{"type":"reasoning_text","text":""})"),
          "response.reasoning_text.delta" + part("rs_1_0", 0, R"("delta":"hm")"),
          "response.reasoning_text.done" + part("rs_1_0", 0, R"("text":"hm")"),
          "response.content_part.done" +
              part("rs_1_0", 0, R"("part":{"type":"reasoning_text","text":"hm"})"),
          fmt::format(R"(response.output_item.done {{"output_index":0,"item":{}}})", kReasoning),
          R"(response.output_item.added {"output_index":1,"item":{"id":"msg_1_1",)"
          R"("type":"message","status":"in_progress","role":"assistant","content":[]}})",
          "response.content_part.added" + part("msg_1_1", 1, output_text("")),
          "response.output_text.delta" + part("msg_1_1", 1, R"("delta":"h","logprobs":[])"),
          "response.output_text.delta" + part("msg_1_1", 1, R"("delta":"€","logprobs":[])"),
          "response.output_text.done" + part("msg_1_1", 1, R"("text":"h€","logprobs":[])"),
          "response.content_part.done" + part("msg_1_1", 1, output_text("h€")),
          fmt::format(R"(response.output_item.done {{"output_index":1,"item":{}}})", kText),
          R"(response.output_item.added {"output_index":2,"item":{"id":"fc_1_2",)"
          R"("type":"function_call","status":"in_progress","call_id":"call_1","name":"f",)"
          R"("arguments":""}})",
          R"(response.function_call_arguments.delta {"item_id":"fc_1_2","output_index":2,)"
          R"("delta":"{}"})",
          R"(response.function_call_arguments.done {"item_id":"fc_1_2","output_index":2,)"
          R"("arguments":"{}","name":"f"})",
          fmt::format(R"(response.output_item.done {{"output_index":2,"item":{}}})", kCall),
          R"(response.completed {"response":)" + head("completed", "null") +
              fmt::format(R"("output":[{},{},{}],)", kReasoning, kText, kCall) + kEnd + "}"));
}

TEST(ResponsesForm, ACutStreamIsIncomplete) {
  ResponsesForm form(kStamp, echo(), false);
  std::string text = form.begin({});
  text += form.write(0, {.content = "h"}, {});
  text += form.finish(0, FinishReason::kLength, kTotals);
  const auto events = named_events(text);
  EXPECT_EQ(events[events.size() - 2].data.at("item").at("status"), "incomplete");
  EXPECT_EQ(events.back().name, "response.incomplete");
  const ChatAnswer cut{.content = "h", .finish_reason = FinishReason::kLength};
  EXPECT_EQ(events.back().data.at("response").dump(), form.whole({&cut, 1}, kTotals));
}

TEST(ResponsesForm, AStreamMayFail) {
  ResponsesForm form(kStamp, echo(), false);
  std::string text = form.begin({});
  text += form.write(0, {.content = "h"}, {});
  text += form.fail(HttpError(503, "later"));
  const auto events = named_events(text);
  EXPECT_EQ(events.back().name, "response.failed");
  const Json& response = events.back().data.at("response");
  EXPECT_EQ(response.at("status"), "failed");
  EXPECT_EQ(response.at("error").dump(), R"({"code":"rate_limit_exceeded","message":"later"})");
  EXPECT_EQ(response.at("output")[0].at("status"), "incomplete");
}

TEST(ResponsesForm, LogprobsComeWithTheText) {
  const NamedLogprob a{.token = 3, .piece = "a", .logprob = -0.5};
  const NamedLogprob b{.token = 4, .piece = "b", .logprob = -1.5};
  const ChatAnswer answer{.content = "ab", .logprobs = {a, b}};
  ResponsesForm form(kStamp, echo(), true);
  std::string text = form.begin({});
  text += form.write(0, {}, {&a, 1});
  text += form.write(0, {.content = "ab"}, {&b, 1});
  text += form.finish(0, FinishReason::kStop, kTotals);
  const auto events = named_events(text);
  for (const NamedEvent& event : events) {
    if (event.name == "response.output_text.delta") {
      EXPECT_EQ(event.data.at("logprobs").size(), 2U);
    }
  }
  EXPECT_EQ(events.back().data.at("response").dump(), form.whole({&answer, 1}, kTotals));
  EXPECT_THAT(form.whole({&answer, 1}, kTotals),
              HasSubstr(R"("logprobs":[{"token":"a","logprob":-0.5,"bytes":[97],)"));
}

TEST(ResponsesForm, JoinsToTheWholeForAnySplits) {
  const ChatAnswer answer{.content = "\u4f60\u597d, w\u00f6rld \U0001F600",
                          .reasoning = "\u00e4\u00f6 \U0001F914",
                          .tool_calls = {{"c1", "f", R"({"q": "na\u00efve"})"}, {"c2", "g", "{}"}}};
  Random random(3);
  for (int round = 0; round < 200; ++round) {
    ResponsesForm form(kStamp, echo(), false);
    std::string text = form.begin({});
    const auto split = [&](const std::string& whole, auto&& write) {
      for (size_t at = 0; at < whole.size();) {
        const size_t size = std::min(1 + random.below(5), whole.size() - at);
        write(whole.substr(at, size));
        at += size;
      }
    };
    split(answer.reasoning, [&](std::string s) { text += form.write(0, {.reasoning = s}, {}); });
    split(answer.content, [&](std::string s) { text += form.write(0, {.content = s}, {}); });
    for (size_t i = 0; i < 2; ++i) {
      const ToolCall& call = answer.tool_calls[i];
      text += form.write(0, {.calls = {{i, call.id, call.name, ""}}}, {});
      split(call.arguments, [&](std::string s) {
        text += form.write(0, {.calls = {{i, call.id, "", s}}}, {});
      });
    }
    text += form.finish(0, FinishReason::kStop, kTotals);
    const auto events = named_events(text);
    EXPECT_EQ(events.back().data.at("response").dump(), form.whole({&answer, 1}, kTotals));
  }
}

TEST(ResponsesForm, TextAfterACallWaitsForItsEnd) {
  ResponsesForm form(kStamp, echo(), false);
  std::string text = form.begin({});
  text += form.write(0, {.calls = {{0, "c", "f", "{"}}}, {});
  text += form.write(0, {.content = "late", .calls = {{0, "c", "", "}"}}}, {});
  text += form.finish(0, FinishReason::kStop, kTotals);
  const Json output = named_events(text).back().data.at("response").at("output");
  ASSERT_EQ(output.size(), 2U);
  EXPECT_EQ(output[0].at("arguments"), "{}");
  EXPECT_EQ(output[1].at("content")[0].at("text"), "late");
}

}  // namespace
}  // namespace restkv::server
