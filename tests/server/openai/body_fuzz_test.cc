// Bodies of requests, mutated: each is taken or refused with 400. RESTKV_FUZZ_BODIES: how many.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "server/openai/anthropic_request.h"
#include "server/openai/chat_format.h"
#include "server/openai/chat_request.h"
#include "server/openai/chat_support.h"
#include "server/openai/completion_request.h"
#include "server/openai/native_request.h"
#include "server/openai/responses_request.h"
#include "server/openai/support.h"
#include "server/openai/text_requests.h"

namespace restkv::server {
namespace {

using Parse = std::function<void(const Json& body)>;

struct Route {
  const char* name;
  const char* body;
  Parse parse;
};

const std::vector<Route>& routes() {
  static const RequestLimits kLimits = small_limits();
  static const std::vector<Route> kRoutes{
      {"/v1/chat/completions",
       R"({"messages": [{"role": "system", "content": "a"}, {"role": "user", "content": [
         {"type": "text", "text": "b"}]}, {"role": "assistant", "tool_calls": [{"id": "1", "type":
         "function", "function": {"name": "f", "arguments": "{}"}}]}, {"role": "tool",
         "tool_call_id": "1", "content": "c"}], "stream": true, "stream_options":
         {"include_usage": true}, "max_tokens": 5, "temperature": 1.5, "top_p": 0.5, "top_k": 4,
         "min_p": 0.1, "seed": 7, "stop": ["x", "y"], "n": 2, "logprobs": true, "top_logprobs": 3,
         "presence_penalty": 0.1, "frequency_penalty": 0.1, "repeat_penalty": 1.1, "logit_bias":
         {"5": 1}, "response_format": {"type": "json_schema", "json_schema": {"schema": {"type":
         "object"}}}, "tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}],
         "tool_choice": "auto", "chat_template_kwargs": {"a": 1}, "user": "u", "restkv": {"method":
         "snapkv:kernel=21", "budget": 64, "decode_budget": 64, "interval": 8, "kv_type": "q8",
         "sparse": "flexprefill:gamma=0.9"}})",
       [](const Json& body) {
         const ChatRequest request = parse_chat_request(body, kLimits);
         validate(request.answer.generation, kLimits.vocabulary);
         EXPECT_FALSE(request.chat.messages.empty());
         EXPECT_GE(request.answer.n, 1U);
         EXPECT_LE(request.answer.n, kLimits.choices);
       }},
      {"/v1/responses",
       R"({"input": [{"role": "user", "content": [{"type": "input_text", "text": "a"}]},
         {"type": "reasoning", "summary": []}, {"type": "function_call", "call_id": "1", "name":
         "f", "arguments": "{}"}, {"type": "function_call_output", "call_id": "1", "output": "c"}],
         "instructions": "i", "max_output_tokens": 5, "temperature": 1.5, "top_p": 0.5, "stream":
         true, "store": false, "metadata": {"k": "v"}, "include":
         ["message.output_text.logprobs"], "top_logprobs": 3, "tools": [{"type": "function",
         "name": "f", "parameters": {}, "strict": true}], "tool_choice": {"type": "allowed_tools",
         "mode": "auto", "tools": [{"type": "function", "name": "f"}]}, "parallel_tool_calls":
         true, "text": {"format": {"type": "json_schema", "name": "n", "schema": {"type":
         "object"}}, "verbosity": "low"}, "reasoning": {"effort": "low"}, "truncation": "auto",
         "background": false, "user": "u", "restkv": {"budget": 64}})",
       [](const Json& body) {
         const ResponsesRequest request = parse_responses_request(body, kLimits);
         validate(request.request.answer.generation, kLimits.vocabulary);
         EXPECT_FALSE(request.request.chat.messages.empty());
         (void)parse_json(request.echo.dump());
       }},
      {"/v1/messages",
       R"({"max_tokens": 5, "system": [{"type": "text", "text": "s"}], "messages": [{"role":
         "user", "content": [{"type": "text", "text": "a"}]}, {"role": "assistant", "content":
         [{"type": "thinking", "thinking": "b", "signature": ""}, {"type": "text", "text": "c"},
         {"type": "tool_use", "id": "1", "name": "f", "input": {"x": 1}}]}, {"role": "user",
         "content": [{"type": "tool_result", "tool_use_id": "1", "is_error": false, "content":
         [{"type": "text", "text": "d"}]}]}], "stop_sequences": ["x"], "temperature": 0.5,
         "top_p": 0.5, "top_k": 4, "stream": true, "tools": [{"name": "f", "input_schema":
         {"type": "object"}}], "tool_choice": {"type": "tool", "name": "f",
         "disable_parallel_tool_use": true}, "thinking": {"type": "enabled", "budget_tokens": 9},
         "metadata": {"user_id": "u"}, "output_config": {"effort": "low", "format": {"type":
         "json_schema", "schema": {"type": "object"}}}, "document": "d"})",
       [](const Json& body) {
         const ChatRequest request = parse_anthropic_request(body, kLimits);
         validate(request.answer.generation, kLimits.vocabulary);
         EXPECT_FALSE(request.chat.messages.empty());
       }},
      {"/v1/messages/count_tokens",
       R"({"system": "s", "messages": [{"role": "user", "content": "a"}, {"role": "assistant",
         "content": "b"}], "tools": [{"name": "f", "input_schema": {}}], "thinking": {"type":
         "adaptive"}})",
       [](const Json& body) { (void)parse_anthropic_count(body, kLimits); }},
      {"/v1/completions",
       R"({"prompt": [[1, 2], [3]], "echo": true, "logprobs": 2, "max_tokens": 3, "suffix": "",
         "best_of": 1, "n": 1, "stop": "x", "seed": 5, "temperature": 0, "document": "d"})",
       [](const Json& body) {
         const CompletionRequest request = parse_completion_request(body, kLimits);
         validate(request.answer.generation, kLimits.vocabulary);
         EXPECT_FALSE(request.prompts.empty());
       }},
      {"/completion",
       R"({"prompt": ["a", 1, 2], "n_predict": 5, "n_probs": 2, "cache_prompt": true, "grammar":
         "root ::= \"a\"", "logit_bias": [[5, false]], "mirostat": 0, "return_tokens": true,
         "stream": true, "repeat_last_n": -1, "ignore_eos": true})",
       [](const Json& body) {
         const NativeRequest request = parse_native_request(body, kLimits);
         validate(request.answer.generation, kLimits.vocabulary);
       }},
      {"/tokenize", R"({"content": "a", "add_special": true, "with_pieces": true})",
       [](const Json& body) { (void)parse_tokenize_request(body); }},
      {"/detokenize", R"({"tokens": [1, 2, 3]})",
       [](const Json& body) { (void)parse_detokenize_request(body, kLimits); }},
      {"/apply-template",
       R"({"messages": [{"role": "user", "content": "a"}], "add_generation_prompt": false})",
       [](const Json& body) { (void)parse_chat(FieldReader(body), kLimits); }},
      {"/v1/documents", R"({"text": "a", "name": "c", "restkv": {"budget": 64}})",
       [](const Json& body) { (void)parse_document_request(body, kLimits); }}};
  return kRoutes;
}

/// Values that are somehow extreme.
const std::vector<std::string>& odd_values() {
  static const std::vector<std::string> kValues{"null",
                                                "true",
                                                "false",
                                                "0",
                                                "-1",
                                                "1e308",
                                                "-1e308",
                                                "1e-320",
                                                "18446744073709551615",
                                                "-9223372036854775808",
                                                "9223372036854775807",
                                                "9223372036854775808",
                                                "4294967295",
                                                "0.5",
                                                "\"\"",
                                                "\"x\"",
                                                "[]",
                                                "{}",
                                                "[[]]",
                                                "[null]",
                                                "{\"\": null}",
                                                "\"\\u0000\"",
                                                "\"\\ud83d\\ude00\"",
                                                "[1, \"a\"]",
                                                "{\"type\": \"object\"}",
                                                "2147483648",
                                                "-2147483649",
                                                "1000",
                                                "999"};
  return kValues;
}

/// Another value somewhere in the tree.
void replace_somewhere(Json& json, Random& random) {
  const bool goes_deeper = (json.is_object() || json.is_array()) && !json.empty();
  if (!goes_deeper || random.below(5) == 0) {
    json = parse_json(random.pick(odd_values()));
    return;
  }
  const size_t index = random.below(json.size());
  if (json.is_array()) return replace_somewhere(json.at(index), random);
  const std::string name = json.items()[index].name;
  if (random.below(20) == 0) return json.erase(name);
  replace_somewhere(json.at(name), random);
}

void mutate_bytes(std::string& text, Random& random) {
  for (size_t i = 0, n = 1 + random.below(4); i < n && !text.empty(); ++i) {
    const size_t at = random.below(text.size());
    switch (random.below(4)) {
      case 0:
        text[at] = static_cast<char>(random.below(256));
        break;
      case 1:
        text.erase(at, 1 + random.below(8));
        break;
      case 2:
        text.insert(at, random.pick(odd_values()));
        break;
      default:
        text.insert(at, text.substr(random.below(text.size()), random.below(64)));
    }
  }
}

TEST(BodyFuzz, EveryBodyIsTakenOrRefused) {
  const char* wanted = std::getenv("RESTKV_FUZZ_BODIES");
  const size_t count = wanted == nullptr ? 3000 : std::stoul(wanted);
  for (const Route& route : routes()) {
    SCOPED_TRACE(route.name);
    ASSERT_NO_THROW(route.parse(parse_body(route.body)));
    size_t taken = 0;
    for (size_t i = 0; i < count; ++i) {
      Random random(1, route.name, i);
      Json json = parse_json(route.body);
      for (size_t k = 0, n = random.below(3); k < n; ++k) replace_somewhere(json, random);
      std::string body = json.dump();
      if (random.below(3) == 0) mutate_bytes(body, random);
      try {
        route.parse(parse_body(body));
        ++taken;
      } catch (const HttpError& error) {
        ASSERT_EQ(error.status(), 400) << body;
        ASSERT_STRNE(error.what(), "") << body;
        ASSERT_NO_THROW((void)parse_json(error.json())) << body;
      } catch (const std::exception& error) {
        FAIL() << error.what() << "\n" << body;
      }
    }
    EXPECT_GT(taken, count / 20);
    EXPECT_LT(taken, count);
  }
}

/// The chat of a request of any form.
Chat chat_of_body(const std::string& route, const Json& body, const RequestLimits& limits) {
  if (route == "/v1/responses") return parse_responses_request(body, limits).request.chat;
  if (route == "/v1/messages") return parse_anthropic_request(body, limits).chat;
  return parse_chat_request(body, limits).chat;
}

TEST(BodyFuzz, EveryChatIsRenderedOrRefused) {
  constexpr size_t kBodies = 300;
  const RequestLimits limits = small_limits();
  const ChatFormat plain(real_tokenizer());
  const ChatFormat with_tools(real_tokenizer(), kToolTemplate, "", "<|im_end|>");
  for (const Route& route : routes()) {
    const std::string name = route.name;
    if (name != "/v1/chat/completions" && name != "/v1/responses" && name != "/v1/messages") {
      continue;
    }
    SCOPED_TRACE(name);
    size_t rendered = 0;
    for (size_t i = 0; i < kBodies; ++i) {
      Random random(2, name, i);
      Json json = parse_json(route.body);
      for (size_t k = 0, n = random.below(3); k < n; ++k) replace_somewhere(json, random);
      const std::string body = json.dump();
      const ChatFormat& format = random.below(4) == 0 ? with_tools : plain;
      try {
        const Chat chat = chat_of_body(name, parse_body(body), limits);
        const ChatPrompt prompt = format.render(chat);
        const bool may_call = !chat.tools.empty() && chat.tool_choice != ToolChoice::kNone;
        ASSERT_EQ(prompt.grammar.has_value(), may_call || chat.schema || !chat.grammar.empty())
            << body;
        ++rendered;
      } catch (const HttpError& error) {
        ASSERT_EQ(error.status(), 400) << body;
      } catch (const std::exception& error) {
        FAIL() << error.what() << "\n" << body;
      }
    }
    EXPECT_GT(rendered, kBodies / 10);
  }
}

}  // namespace
}  // namespace restkv::server
