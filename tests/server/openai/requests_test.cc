// Requests as clients send them, and those that are refused.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <limits>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "server/openai/chat_request.h"
#include "server/openai/completion_request.h"
#include "server/openai/native_request.h"
#include "server/openai/support.h"
#include "server/openai/text_requests.h"

namespace restkv::server {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

ChatRequest chat(const std::string& fields) {
  return parse_chat_request(
      parse_body(R"({"messages": [{"role": "user", "content": "hi"}])" + fields + "}"),
      small_limits());
}
CompletionRequest completion(const std::string& fields) {
  return parse_completion_request(parse_body(R"({"model": "m")" + fields + "}"), small_limits());
}
NativeRequest native(const std::string& fields) {
  return parse_native_request(parse_body(R"({"prompt": "a")" + fields + "}"), small_limits());
}

TEST(ChatRequest, HasDefaultsOfTheOperator) {
  const ChatRequest request = chat("");
  EXPECT_THAT(request.chat.messages, ElementsAre(Message{.role = "user", .content = "hi"}));
  EXPECT_EQ(request.answer.n, 1U);
  EXPECT_FALSE(request.answer.stream);
  EXPECT_FALSE(request.answer.has_seed);
  EXPECT_FALSE(request.answer.has_max_tokens);
  EXPECT_EQ(request.answer.generation.max_tokens, 512U);
  EXPECT_FLOAT_EQ(request.answer.generation.sampling.temperature, 0.8F);
  EXPECT_FALSE(request.answer.generation.logprobs.has_value());
  EXPECT_FALSE(request.answer.session.has_value());
}

TEST(ChatRequest, ReadsEveryField) {
  const ChatRequest request = chat(R"(, "model": "m", "stream": true,
    "stream_options": {"include_usage": true}, "max_tokens": 7, "max_completion_tokens": 9,
    "temperature": 0.5, "top_p": 0.25, "top_k": 3, "min_p": 0.125, "seed": 42,
    "stop": ["a", "b"], "n": 2, "logprobs": true, "top_logprobs": 4, "presence_penalty": 0.5,
    "frequency_penalty": -0.5, "repeat_penalty": 1.5, "logit_bias": {"7": -100, "8": 2.5},
    "user": "u", "unknown": {"x": 1}, "min_tokens": 2,
    "restkv": {"method": "snapkv:kernel=21", "budget": 256, "decode_budget": 128, "interval": 64,
               "kv_type": "q8", "sparse": "flexprefill:gamma=0.9"})");
  const AnswerOptions& answer = request.answer;
  EXPECT_TRUE(answer.stream);
  EXPECT_TRUE(answer.include_usage);
  EXPECT_EQ(answer.generation.max_tokens, 9U) << "the newer name counts";
  EXPECT_EQ(answer.generation.min_tokens, 2U);
  const SamplingOptions& s = answer.generation.sampling;
  EXPECT_EQ(s.temperature, 0.5F);
  EXPECT_EQ(s.top_p, 0.25F);
  EXPECT_EQ(s.top_k, 3);
  EXPECT_EQ(s.min_p, 0.125F);
  EXPECT_EQ(s.seed, 42U);
  EXPECT_EQ(s.presence_penalty, 0.5F);
  EXPECT_EQ(s.frequency_penalty, -0.5F);
  EXPECT_EQ(s.repeat_penalty, 1.5F);
  EXPECT_THAT(answer.generation.stop, ElementsAre("a", "b"));
  EXPECT_EQ(answer.generation.logprobs, 4U);
  EXPECT_THAT(answer.generation.logit_bias, ElementsAre(std::pair(7, -100.0F), std::pair(8, 2.5F)));
  ASSERT_TRUE(answer.session.has_value());
  EXPECT_EQ(answer.session->options.compression.method, "snapkv");
  EXPECT_EQ(answer.session->options.compression.kernel, 21);
  EXPECT_EQ(answer.session->options.compression.budget, 256);
  EXPECT_EQ(answer.session->options.decode_budget, 128);
  EXPECT_EQ(answer.session->options.interval, 64U);
  EXPECT_EQ(answer.session->options.kv_type, KvType::kQ8);
  EXPECT_EQ(answer.session->options.sparse.pattern, "flexprefill");
}

TEST(ChatRequest, TakesShares) {
  const RequestLimits limits = small_limits();
  const auto budget = [&](const std::string& restkv, size_t tokens) {
    const ChatRequest request = chat(", \"restkv\": " + restkv);
    return session_for(*request.answer.session, tokens, limits).compression.budget;
  };
  EXPECT_EQ(budget(R"({"budget": "25%"})", 1000), 250);
  EXPECT_EQ(budget(R"({"budget": "100%"})", 1000), 1000);
  EXPECT_EQ(budget(R"({"budget": "256"})", 1000), 256);
  EXPECT_EQ(budget(R"({"method": "snapkv:budget=100", "budget": "25%"})", 1000), 250);
  // Within what the operator allows and the method needs.
  EXPECT_EQ(budget(R"({"budget": "50%"})", 100'000), 2048);
  EXPECT_EQ(budget(R"({"method": "snapkv:window=32", "budget": "1%"})", 100), 33);

  // Layers may choose, too.
  const ChatRequest chosen = chat(R"(, "restkv": {"method": "snapkv", "budget": "auto:0.1"})");
  const CompressionOptions options = session_for(*chosen.answer.session, 1000, limits).compression;
  EXPECT_EQ(options.tolerance, 0.1);
  EXPECT_EQ(options.budget, 2048);

  RequestLimits shares = limits;
  shares.session.share = Budget{.share = 0.5};
  const auto by_default = [&](const std::string& restkv, size_t tokens) {
    const Json json = parse_json(restkv);
    const AskedSession asked = parse_session_options(FieldReader(json), shares.session, shares);
    return session_for(asked, tokens, shares).compression;
  };
  EXPECT_EQ(by_default("{}", 500).budget, 250);
  EXPECT_EQ(by_default(R"({"budget": 64})", 500).budget, 64);
  EXPECT_EQ(by_default(R"({"method": "snapkv"})", 500).budget, 250);
  EXPECT_EQ(by_default(R"({"method": "snapkv:budget=80"})", 500).budget, 80);
  EXPECT_EQ(by_default(R"({"method": "full"})", 500).method, "full");
}

TEST(ChatRequest, ReadsToolsAndWhatTheySaid) {
  const Json body = parse_body(R"({"messages": [
      {"role": "developer", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
      {"role": "assistant", "content": null, "reasoning_content": "hm", "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{\"x\": 1}"}}]},
      {"role": "tool", "tool_call_id": "c1", "content": "2"}],
    "tools": [{"type": "function", "function": {"name": "f", "description": "d",
      "parameters": {"type": "object", "properties": {"x": {"type": "integer"}}}}},
      {"type": "function", "function": {"name": "g"}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}}, "parallel_tool_calls": true,
    "chat_template_kwargs": {"enable_thinking": false}, "reasoning_effort": "high"})");
  const Chat chat = parse_chat_request(body, small_limits()).chat;
  EXPECT_EQ(chat.messages[0].content, "a\nb");
  EXPECT_EQ(chat.messages[1].reasoning, "hm");
  EXPECT_THAT(chat.messages[1].tool_calls, ElementsAre(ToolCall{"c1", "f", "{\"x\": 1}"}));
  EXPECT_EQ(chat.messages[2].tool_call_id, "c1");
  ASSERT_EQ(chat.tools.size(), 1U) << "only one may be called";
  EXPECT_EQ(chat.tools[0].name, "f");
  EXPECT_EQ(chat.tool_choice, ToolChoice::kRequired);
  EXPECT_EQ(chat.parallel_tool_calls, true);
  EXPECT_EQ(chat.template_variables.dump(),
            R"({"enable_thinking":false,"reasoning_effort":"high"})");
  EXPECT_EQ(chat.plain()[0].role, "system");
}

TEST(ChatRequest, ReadsResponseFormats) {
  EXPECT_FALSE(chat(R"(, "response_format": {"type": "text"})").chat.schema.has_value());
  EXPECT_EQ(chat(R"(, "response_format": {"type": "json_object"})").chat.schema->dump(),
            R"({"type":"object"})");
  EXPECT_EQ(chat(R"(, "response_format": {"type": "json_schema", "json_schema": {"name": "x",
                 "strict": true, "schema": {"type": "array"}}})")
                .chat.schema->dump(),
            R"({"type":"array"})");
}

struct Refused {
  const char* fields;
  const char* message;  // how "param: message" begins
};

void expect_refusals(const std::vector<Refused>& list, auto&& parse) {
  for (const auto& [fields, message] : list) {
    SCOPED_TRACE(fields);
    EXPECT_THAT(api_refusal([&] { (void)parse(fields); }), StartsWith(message));
  }
}

TEST(ChatRequest, RefusesByName) {
  expect_refusals(
      {{R"(, "temperature": "hot")", "temperature: 'temperature' is \"hot\"; expected a number"},
       {R"(, "temperature": 2.5)",
        "temperature: 'temperature' is 2.5; expected a number from 0 to 2"},
       {R"(, "temperature": -0.1)", "temperature:"},
       {R"(, "temperature": true)", "temperature:"},
       {R"(, "temperature": 1e308)", "temperature:"},
       {R"(, "top_p": 1.01)", "top_p:"},
       {R"(, "top_k": 1.5)", "top_k: 'top_k' is 1.5; expected a whole number"},
       {R"(, "top_k": 99999999999)", "top_k:"},
       {R"(, "top_k": -2)", "top_k:"},
       {R"(, "min_p": [])", "min_p:"},
       {R"(, "seed": "1")", "seed:"},
       {R"(, "seed": 1e300)", "seed:"},
       {R"(, "seed": 9223372036854775808)", "seed:"},
       {R"(, "seed": 1e18)", "seed:"},
       {R"(, "n": 0)", "n: 'n' is 0; expected a whole number from 1 to 8"},
       {R"(, "n": 9)", "n:"},
       {R"(, "stream": 1)", "stream: 'stream' is 1; expected true or false"},
       {R"(, "stream_options": [])", "stream_options:"},
       {R"(, "stream_options": {"include_usage": 1})", "stream_options.include_usage:"},
       {R"(, "max_tokens": 0)", "max_tokens:"},
       {R"(, "max_tokens": 4097)", "max_tokens:"},
       {R"(, "max_completion_tokens": -1)", "max_completion_tokens:"},
       {R"(, "min_tokens": 600)", "min_tokens:"},
       {R"(, "stop": 5)", "stop: 'stop' is 5; expected a text or a list of texts"},
       {R"(, "stop": "")", "stop:"},
       {R"(, "stop": ["a", 5])", "stop[1]:"},
       {R"(, "stop": ["1","2","3","4","5","6","7","8","9","1","2","3","4","5","6","7","8"])",
        "stop: 'stop' has 17 texts; the limit is 16"},
       {R"(, "logprobs": 3)", "logprobs:"},
       {R"(, "top_logprobs": 3)", "top_logprobs: 'top_logprobs' is 3; expected 'logprobs': true"},
       {R"(, "logprobs": true, "top_logprobs": 21)", "top_logprobs:"},
       {R"(, "presence_penalty": 3)", "presence_penalty:"},
       {R"(, "frequency_penalty": -3)", "frequency_penalty:"},
       {R"(, "repeat_penalty": 0)", "repeat_penalty:"},
       {R"(, "logit_bias": {"1000": 1})", "logit_bias: 'logit_bias' names the token"},
       {R"(, "logit_bias": {"x": 1})", "logit_bias:"},
       {R"(, "logit_bias": {"1": 101})", "logit_bias.1:"},
       {R"(, "logit_bias": {"1": true})", "logit_bias.1:"},
       {R"(, "logit_bias": [1])", "logit_bias:"},
       {R"(, "response_format": {"type": "xml"})", "response_format.type:"},
       {R"(, "response_format": {})", "response_format.type: 'response_format.type' is missing"},
       {R"(, "response_format": {"type": "json_schema"})", "response_format.json_schema:"},
       {R"(, "response_format": {"type": "json_schema", "json_schema": {"schema": 1}})",
        "response_format.json_schema.schema:"},
       {R"(, "tools": {})", "tools:"},
       {R"(, "tools": [1])", "tools[0]:"},
       {R"(, "tools": [{"type": "code"}])", "tools[0].type:"},
       {R"(, "tools": [{"type": "function", "function": {"name": "a b"}}])",
        "tools[0].function.name:"},
       {R"(, "tools": [{"type": "function", "function": {"name": "a", "parameters": 1}}])",
        "tools[0].function.parameters:"},
       {R"(, "tool_choice": "required")", "tool_choice:"},
       {R"(, "tool_choice": "maybe")", "tool_choice:"},
       {R"(, "tool_choice": {"type": "function", "function": {"name": "f"}})",
        "tool_choice.function.name:"},
       {R"(, "functions": [])", "functions: 'functions' is not supported"},
       {R"(, "chat_template": "{{ x }}")", "chat_template:"},
       {R"(, "chat_template_kwargs": 1)", "chat_template_kwargs:"},
       {R"(, "chat_template_kwargs": {"enable_thinking": "yes"})",
        "chat_template_kwargs.enable_thinking:"},
       {R"(, "modalities": ["audio"])", "modalities:"},
       {R"(, "continue_final_message": true)", "continue_final_message:"},
       {R"(, "document": 5)", "document:"},
       {R"(, "document": "d", "restkv": {})", "restkv: 'restkv' has no effect beside 'document'"},
       {R"(, "restkv": {"metod": "full"})", "restkv.metod: 'restkv.metod' is not known"},
       {R"(, "restkv": {"method": "zip"})", "restkv.method:"},
       {R"(, "restkv": {"method": "snapkv:kernel=4"})", "restkv.method:"},
       {R"(, "restkv": {"method": "snapkv:allocation=profile:profile=/etc/passwd"})",
        "restkv.method: the allocation 'profile' reads a file"},
       {R"(, "restkv": {"method": "triattention:statistics=/etc/passwd"})",
        "restkv.method: the method 'triattention' reads a file"},
       {R"(, "restkv": {"method": "triattention"})",
        "restkv.method: the method 'triattention' reads a file"},
       {R"(, "restkv": {"budget": 0})", "restkv.budget:"},
       {R"(, "restkv": {"budget": 2049})", "restkv.budget: 'restkv.budget' is 2049; this server"},
       {R"(, "restkv": {"budget": "3000"})", "restkv.budget: 'restkv.budget' is 3000; this server"},
       {R"(, "restkv": {"budget": "0%"})", "restkv.budget: the budget is \"0%\"; expected"},
       {R"(, "restkv": {"budget": "120%"})", "restkv.budget: the budget is \"120%\"; expected"},
       {R"(, "restkv": {"budget": "half"})", "restkv.budget: the budget is \"half\"; expected"},
       {R"(, "restkv": {"budget": [1]})", "restkv.budget:"},
       {R"(, "restkv": {"budget": "auto:1"})", "restkv.budget: the budget is \"auto:1\"; expected"},
       {R"(, "restkv": {"budget": "auto:0.1:4096"})",
        "restkv.budget: 'restkv.budget' is 4096; this server"},
       {R"(, "restkv": {"method": "keydiff", "budget": "auto"})",
        "restkv.budget: method keydiff has no observation window"},
       {R"(, "restkv": {"method": "full", "budget": "25%"})", "restkv.budget:"},
       {R"(, "restkv": {"decode_budget": 99999, "interval": 8})", "restkv.decode_budget:"},
       {R"(, "restkv": {"decode_budget": 100})", "restkv.decode_budget:"},
       {R"(, "restkv": {"method": "full", "budget": 5})", "restkv.budget:"},
       {R"(, "restkv": {"method": "full", "interval": 5})",
        "restkv.interval: 'restkv.interval' is 5; expected 0"},
       {R"(, "restkv": {"method": "full", "decode_budget": 5})", "restkv.decode_budget:"},
       {R"(, "restkv": {"kv_type": "q3"})", "restkv.kv_type:"},
       {R"(, "restkv": {"sparse": "none-such"})", "restkv.sparse:"}},
      chat);
}

TEST(ChatRequest, RefusesMessages) {
  expect_refusals(
      {{R"({})", "messages: 'messages' is missing"},
       {R"({"messages": "hi"})", "messages:"},
       {R"({"messages": []})", "messages: 'messages' has 0 items"},
       {R"({"messages": [1]})", "messages[0]:"},
       {R"({"messages": [{"content": "a"}]})", "messages[0].role: 'messages[0].role' is missing"},
       {R"({"messages": [{"role": "king", "content": "a"}]})", "messages[0].role:"},
       {R"({"messages": [{"role": "user"}]})", "messages[0].content:"},
       {R"({"messages": [{"role": "user", "content": 1}]})", "messages[0].content:"},
       {R"({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]})",
        "messages[0].content[0].type: 'messages[0].content[0].type' is \"image_url\"; expected"},
       {R"({"messages": [{"role": "user", "content": [{"type": "text"}]}]})",
        "messages[0].content[0].text:"},
       {R"({"messages": [{"role": "assistant", "content": null}]})", "messages[0].content:"},
       {R"({"messages": [{"role": "assistant", "tool_calls": [{"function": {}}]}]})",
        "messages[0].tool_calls[0].function.name:"}},
      [](const char* body) { return parse_chat_request(parse_body(body), small_limits()); });
}

TEST(Body, RefusesWhatIsNoJson) {
  const std::string deep = R"({"a": )" + std::string(64, '[') + std::string(64, ']') + "}";
  for (const std::string& body :
       std::vector<std::string>{"", "{", "[]", "1", "null", R"({"a": NaN})", R"({"a": 1e999})",
                                R"({"a": "\ud800"})", "{\"a\": \"\xff\"}", R"({"a": 1, "a": 2})",
                                std::string("{\"a\": \"\0\"}", 10), deep, R"({"a": 1} x)"}) {
    SCOPED_TRACE(body);
    EXPECT_THAT(api_refusal([&] { (void)parse_body(body); }),
                StartsWith(": the body of the request is"));
  }
}

TEST(LogitBias, HasNoMoreItemsThanThereAreTokens) {
  std::string pairs = "[1,2]";
  for (size_t i = 0; i < small_limits().vocabulary; ++i) pairs += ",[1,2]";
  EXPECT_THAT(api_refusal([&] { (void)native(R"(, "logit_bias": [)" + pairs + "]"); }),
              StartsWith("logit_bias:"));
}

TEST(Body, HasSoManyValuesAtMost) {
  const auto list = [](size_t zeros) {
    std::string text = R"({"a": [0)";
    text.reserve(2 * zeros + 20);
    for (size_t i = 1; i < zeros; ++i) text += ",0";
    return text + "]}";
  };
  EXPECT_EQ(parse_body(list(1000))["a"].size(), 1000U);
  try {
    (void)parse_body(list(kMostJsonValues));
    ADD_FAILURE() << "it was parsed";
  } catch (const HttpError& error) {
    EXPECT_EQ(error.status(), 413);
    EXPECT_THAT(error.what(), HasSubstr(std::to_string(kMostJsonValues)));
  }
  // What stands in texts is not counted.
  const std::string commas(kMostJsonValues + 1, ',');
  EXPECT_EQ(parse_body(R"({"a": "\")" + commas + R"("})")["a"].text().size(), commas.size() + 1);
}

TEST(CompletionRequest, ReadsEveryFormOfPrompt) {
  using Ids = std::vector<int32_t>;
  const auto prompts = [](const std::string& text) {
    return completion(R"(, "prompt": )" + text).prompts;
  };
  EXPECT_THAT(prompts(R"("a")"), ElementsAre(Prompt{{"a"}}));
  EXPECT_THAT(prompts(R"(["a", "b"])"), ElementsAre(Prompt{{"a"}}, Prompt{{"b"}}));
  EXPECT_THAT(prompts("[1, 2]"), ElementsAre(Prompt{{Ids{1, 2}}}));
  EXPECT_THAT(prompts("[[1, 2], [3]]"), ElementsAre(Prompt{{Ids{1, 2}}}, Prompt{{Ids{3}}}));
}

TEST(CompletionRequest, ReadsItsOwnFields) {
  const CompletionRequest request = completion(
      R"(, "prompt": "a", "echo": true, "logprobs": 3, "max_tokens": 0, "suffix": null,
         "best_of": 1)");
  EXPECT_TRUE(request.echo);
  EXPECT_EQ(request.answer.generation.logprobs, 3U);
  EXPECT_EQ(request.answer.generation.max_tokens, 0U);
  EXPECT_EQ(completion(R"(, "prompt": "a")").answer.generation.max_tokens, 16U);
}

TEST(CompletionRequest, RefusesByName) {
  expect_refusals({{"", "prompt: 'prompt' is missing"},
                   {R"(, "prompt": 5)", "prompt:"},
                   {R"(, "prompt": [])", "prompt:"},
                   {R"(, "prompt": ["a", 1])", "prompt[1]:"},
                   {R"(, "prompt": [[]])", "prompt[0]:"},
                   {R"(, "prompt": [1, 1000])", "prompt[1]: 'prompt[1]' is 1000; expected a token"},
                   {R"(, "prompt": [1, -1])", "prompt[1]:"},
                   {R"(, "prompt": [[1, 2.5]])", "prompt[0][1]:"},
                   {R"(, "prompt": [[1], "a", {}])", "prompt[2]:"},
                   {R"(, "prompt": "a", "suffix": "b")", "suffix:"},
                   {R"(, "prompt": "a", "best_of": 3)", "best_of:"},
                   {R"(, "prompt": "a", "logprobs": true)", "logprobs:"},
                   {R"(, "prompt": "a", "echo": "yes")", "echo:"},
                   {R"(, "prompt": "a", "max_tokens": 0)", "max_tokens:"}},
                  completion);
}

TEST(NativeRequest, ReadsItsOwnFields) {
  const NativeRequest request =
      parse_native_request(parse_body(R"({"prompt": ["a", 1, 2, "b"], "n_predict": -1, "n_probs": 2,
        "cache_prompt": false, "return_tokens": true, "grammar": "root ::= \"a\"",
        "logit_bias": [[5, false], [6, 1.5]], "seed": -1, "mirostat": 0, "typical_p": 1.0,
        "samplers": ["top_k"], "id_slot": -1, "repeat_last_n": -1})"),
                           small_limits());
  using Ids = std::vector<int32_t>;
  EXPECT_THAT(request.prompts, ElementsAre(Prompt{{"a", Ids{1, 2}, "b"}}));
  EXPECT_EQ(request.answer.generation.max_tokens, 512U);
  EXPECT_FALSE(request.answer.has_max_tokens);
  EXPECT_FALSE(request.answer.has_seed);
  EXPECT_EQ(request.answer.generation.logprobs, 2U);
  EXPECT_FALSE(request.cache_prompt);
  EXPECT_TRUE(request.return_tokens);
  EXPECT_EQ(request.grammar, "root ::= \"a\"");
  EXPECT_EQ(request.answer.generation.logit_bias[0].second,
            -std::numeric_limits<float>::infinity());
}

TEST(NativeRequest, RefusesByName) {
  expect_refusals({{R"(, "mirostat": 2)", "mirostat: 'mirostat' is 2; expected 0: this server"},
                   {R"(, "xtc_probability": 0.5)", "xtc_probability:"},
                   {R"(, "top_n_sigma": 1)", "top_n_sigma:"},
                   {R"(, "n_predict": "x")", "n_predict:"},
                   {R"(, "n_predict": -3)", "n_predict:"},
                   {R"(, "post_sampling_probs": true)", "post_sampling_probs:"},
                   {R"(, "json_schema": 5)", "json_schema:"},
                   {R"(, "json_schema": {}, "grammar": "x")", "grammar:"}},
                  native);
}

TEST(TextRequests, SpeakBothDialects) {
  const auto tokenize = [](const char* body) { return parse_tokenize_request(parse_body(body)); };
  EXPECT_EQ(tokenize(R"({"content": "a"})").add_special, false);
  EXPECT_EQ(tokenize(R"({"prompt": "a"})").add_special, true);
  EXPECT_EQ(tokenize(R"({"prompt": "a", "add_special_tokens": false})").add_special, false);
  EXPECT_EQ(tokenize(R"({"content": "a", "with_pieces": true})").with_pieces, true);
  EXPECT_THAT(api_refusal([&] { (void)tokenize("{}"); }), StartsWith("prompt:"));
  EXPECT_THAT(parse_detokenize_request(parse_body(R"({"tokens": [1, 2]})"), small_limits()),
              ElementsAre(1, 2));
  const std::vector<int32_t> tokens{5, 6};
  const auto piece_of = [](int32_t token) { return std::string(token == 5 ? "\"" : "\xe2"); };
  EXPECT_EQ(tokens_json(tokens, piece_of, 9),
            R"({"tokens":[{"id":5,"piece":"\""},{"id":6,"piece":[226]}],"count":2,)"
            R"("max_model_len":9})");
  EXPECT_EQ(tokens_json(tokens, {}, 9), R"({"tokens":[5,6],"count":2,"max_model_len":9})");
  EXPECT_EQ(tokens_json({}, {}, 9), R"({"tokens":[],"count":0,"max_model_len":9})");
}

TEST(TextRequests, DocumentsHaveTextsAndNames) {
  const auto document = [](const char* body) {
    return parse_document_request(parse_body(body), small_limits());
  };
  EXPECT_EQ(document(R"({"text": "a", "name": "n"})").name, "n");
  EXPECT_THAT(api_refusal([&] { (void)document(R"({"text": "a", "id": "mine"})"); }),
              StartsWith("id:"));
  EXPECT_THAT(api_refusal([&] { (void)document(R"({"text": ""})"); }), StartsWith("text:"));
  EXPECT_THAT(api_refusal([&] { (void)document(R"({})"); }), StartsWith("text:"));
}

TEST(Seeds, KeepWhatSamplersTake) {
  EXPECT_EQ(sampler_seed(0), 0U);
  EXPECT_EQ(sampler_seed(4294967294), 4294967294U);
  EXPECT_NE(sampler_seed(4294967295), 4294967295U);
  EXPECT_NE(sampler_seed(-2), 4294967295U);
  EXPECT_NE(sampler_seed(int64_t{1} << 40), sampler_seed(int64_t{1} << 41));
}

/// What lm-evaluation-harness sent in recorded runs.
TEST(RecordedRequests, AllParse) {
  namespace fs = std::filesystem;
  const char* golden = std::getenv("RESTKV_GOLDEN_DIR");
  fs::path file = fs::path(golden == nullptr ? "" : golden) / "lmeval_requests.jsonl";
  if (!fs::exists(file)) file = fs::path(RESTKV_TEST_DATA_DIR) / "lm_eval" / "requests.jsonl";
  RequestLimits limits;
  limits.vocabulary = 49152;
  std::ifstream stream(file);
  size_t count = 0;
  for (std::string line; std::getline(stream, line); ++count) {
    SCOPED_TRACE(line);
    const Json record = parse_json(line);
    const Json& body = record.contains("body") ? record.at("body") : record;
    if (body.is_null()) continue;
    const std::string path = record.value("path", "/v1/completions");
    if (path == "/tokenize") {
      EXPECT_FALSE(parse_tokenize_request(body).add_special);
    } else if (path == "/detokenize") {
      EXPECT_FALSE(parse_detokenize_request(body, limits).empty());
    } else if (path == "/v1/chat/completions") {
      const ChatRequest request = parse_chat_request(body, limits);
      EXPECT_EQ(request.chat.messages.size(), body.at("messages").size());
      EXPECT_TRUE(request.answer.has_seed);
    } else {
      const CompletionRequest request = parse_completion_request(body, limits);
      EXPECT_EQ(request.echo, body.contains("echo"));
      EXPECT_EQ(request.answer.generation.sampling.seed, body.at("seed").get<unsigned>());
      EXPECT_EQ(static_cast<size_t>(body.at("max_tokens").get<int>()),
                request.answer.generation.max_tokens);
    }
  }
  EXPECT_GE(count, 4U);
}

/// Requests made at random from values that are then to be found again.
TEST(ChatRequest, GivesBackWhatWasWritten) {
  Random random(7);
  const auto real = [&](double low, double high) {
    return low + (high - low) * static_cast<double>(random.below(1001)) / 1000;
  };
  for (int round = 0; round < 500; ++round) {
    Json body = Json::object();
    std::vector<Message> messages;
    Json list = Json::array();
    for (size_t i = 0, n = 1 + random.below(5); i < n; ++i) {
      const std::vector<std::string> roles{"system", "user", "assistant", "developer"};
      Message message{.role = random.pick(roles), .content = fmt::format("text {}\u20ac", i)};
      Json content = message.content;
      if (random.below(2) == 0) {
        content = Json::array({Json::object({{"type", "text"}, {"text", message.content}})});
      }
      list.push_back(Json::object({{"role", message.role}, {"content", content}}));
      messages.push_back(message);
    }
    body["messages"] = list;
    GenerationOptions wanted;
    wanted.sampling.temperature = static_cast<float>(real(0, 2));
    wanted.sampling.top_p = static_cast<float>(real(0.01, 1));
    wanted.sampling.top_k = static_cast<int>(random.below(100));
    wanted.sampling.seed = static_cast<uint32_t>(random.below(1U << 31U));
    wanted.max_tokens = 1 + random.below(4096);
    for (size_t i = 0, n = random.below(17); i < n; ++i)
      wanted.stop.push_back(fmt::format("s{}", i));
    body["temperature"] = static_cast<double>(wanted.sampling.temperature);
    body["top_p"] = static_cast<double>(wanted.sampling.top_p);
    body["top_k"] = wanted.sampling.top_k;
    body["seed"] = wanted.sampling.seed;
    body["max_tokens"] = wanted.max_tokens;
    body["stop"] = wanted.stop.size() == 1 ? Json(wanted.stop[0]) : Json(wanted.stop);
    const size_t n = 1 + random.below(8);
    body["n"] = n;
    const ChatRequest request = parse_chat_request(parse_body(body.dump()), small_limits());
    EXPECT_EQ(request.chat.messages, messages);
    const GenerationOptions& given = request.answer.generation;
    const float tiny = 1e-6F;
    EXPECT_EQ(given.sampling.temperature,
              wanted.sampling.temperature < tiny ? 0 : wanted.sampling.temperature);
    EXPECT_EQ(given.sampling.top_p, wanted.sampling.top_p);
    EXPECT_EQ(given.sampling.top_k, wanted.sampling.top_k);
    EXPECT_EQ(given.sampling.seed, wanted.sampling.seed);
    EXPECT_EQ(given.max_tokens, wanted.max_tokens);
    EXPECT_EQ(given.stop, wanted.stop);
    EXPECT_EQ(request.answer.n, n);
    validate(given, small_limits().vocabulary);
  }
}

}  // namespace
}  // namespace restkv::server
