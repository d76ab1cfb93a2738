// Answers in the forms that clients read.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "base/random.h"
#include "server/http/http_error.h"
#include "server/openai/chat_completion_form.h"
#include "server/openai/completion_answer.h"
#include "server/openai/listings.h"
#include "server/openai/native_answer.h"

namespace restkv::server {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

const AnswerStamp kStamp{.id = "chatcmpl-1", .created = 1700000000, .model = "m"};
const AnswerTotals kTotals{
    .counts = {.prompt = 10, .cached = 4, .completion = 3},
    .cache = CacheReport{
        .kept = 5, .dropped = 8, .kv_bytes = 640, .full_kv_bytes = 1664, .compress_ms = 1.5}};
constexpr const char* kUsage =
    R"("usage":{"prompt_tokens":10,"completion_tokens":3,"total_tokens":13,)"
    R"("prompt_tokens_details":{"cached_tokens":4}})";
constexpr const char* kCache =
    R"("restkv":{"kept":5,"dropped":8,"kv_bytes":640,"full_kv_bytes":1664,"compress_ms":1.5})";

/// A token in two halves of a character, and one that cannot happen.
std::vector<NamedLogprob> some_logprobs() {
  return {
      {.token = 3, .piece = "a", .logprob = -0.5, .likeliest = {{3, "a", -0.5}, {4, "b", -1.5}}},
      {.token = 5,
       .piece = "\xe2\x82",
       .logprob = -std::numeric_limits<double>::infinity(),
       .likeliest = {{5, "\xe2\x82", -2}}}};
}

/// The JSON of a stream's events, which must end with [DONE] and nothing else.
std::vector<Json> events_of(std::string_view stream) {
  std::vector<Json> events;
  bool done = false;
  while (!stream.empty()) {
    EXPECT_TRUE(stream.starts_with("data: "));
    const size_t end = stream.find("\n\n");
    const std::string_view data = stream.substr(6, end - 6);
    EXPECT_EQ(data.find('\n'), std::string_view::npos);
    EXPECT_FALSE(done);
    done = data == "[DONE]";
    if (!done) events.push_back(parse_json(data));
    stream.remove_prefix(end + 2);
  }
  EXPECT_TRUE(done);
  return events;
}

TEST(ChatCompletionForm, WholeIsAsOpenAiWritesIt) {
  const std::vector<ChatAnswer> answers{
      {.content = "hi", .reasoning = "", .logprobs = some_logprobs()},
      {.reasoning = "hm", .tool_calls = {{"call_1", "f", "{}"}}},
      {.content = "cut", .finish_reason = FinishReason::kLength}};
  EXPECT_EQ(
      ChatCompletionForm(kStamp, 3, false, true).whole(answers, kTotals),
      std::string(
          R"({"id":"chatcmpl-1","object":"chat.completion","created":1700000000,"model":"m",)"
          R"("choices":[{"index":0,"message":{"role":"assistant","content":"hi","refusal":null},)"
          R"("logprobs":{"content":[{"token":"a","logprob":-0.5,"bytes":[97],"top_logprobs":[)"
          R"({"token":"a","logprob":-0.5,"bytes":[97]},{"token":"b","logprob":-1.5,"bytes":[98]}]},)"
          "{\"token\":\"\uFFFD\",\"logprob\":-9999.0,\"bytes\":[226,130],\"top_logprobs\":["
          "{\"token\":\"\uFFFD\",\"logprob\":-2.0,\"bytes\":[226,130]}]}],"
          R"("refusal":null},"finish_reason":"stop"},)"
          R"({"index":1,"message":{"role":"assistant","content":null,"refusal":null,)"
          R"("reasoning_content":"hm","reasoning":"hm","tool_calls":[{"id":"call_1",)"
          R"("type":"function","function":{"name":"f","arguments":"{}"}}]},)"
          R"("logprobs":{"content":[],"refusal":null},"finish_reason":"tool_calls"},)"
          R"({"index":2,"message":{"role":"assistant","content":"cut","refusal":null},)"
          R"("logprobs":{"content":[],"refusal":null},"finish_reason":"length"}],)") +
          kUsage + "," + kCache + "}");
}

TEST(ChatCompletionForm, BeginsWithTheRoleAndEndsWithTheCounts) {
  ChatCompletionForm stream(kStamp, 1, true, false);
  std::string text = stream.begin({.prompt = 10});
  text += stream.write(0, {.content = "h\xe2\x82"}, {});
  text += stream.write(0, {.content = "\xac"}, {});
  text += stream.write(0, {.calls = {{0, "call_1", "f", ""}}}, {});
  text += stream.write(0, {.calls = {{0, "call_1", "", "{}"}}}, {});
  text += stream.finish(0, FinishReason::kStop, kTotals);
  const std::string head =
      R"({"id":"chatcmpl-1","object":"chat.completion.chunk","created":1700000000,"model":"m",)";
  const auto chunk = [&](const std::string& delta, const std::string& finish) {
    return head + R"("choices":[{"index":0,"delta":)" + delta +
           R"(,"logprobs":null,"finish_reason":)" + finish + "}]}";
  };
  std::vector<std::string> events;
  for (const Json& event : events_of(text)) events.push_back(event.dump());
  EXPECT_THAT(
      events,
      ElementsAre(chunk(R"({"role":"assistant","content":""})", "null"),
                  chunk(R"({"content":"h"})", "null"), chunk("{\"content\":\"\u20AC\"}", "null"),
                  chunk(R"({"tool_calls":[{"index":0,"id":"call_1","type":"function",)"
                        R"("function":{"name":"f","arguments":""}}]})",
                        "null"),
                  chunk(R"({"tool_calls":[{"index":0,"function":{"arguments":"{}"}}]})", "null"),
                  chunk("{}", R"("tool_calls")"),
                  head + R"("choices":[],)" + kUsage + "," + kCache + "}"));
}

TEST(ChatCompletionForm, WithoutCountsTheLastChoiceBringsTheCache) {
  ChatCompletionForm stream(kStamp, 2, false, false);
  std::string text = stream.begin({});
  text += stream.finish(1, FinishReason::kLength, kTotals);
  text += stream.finish(0, FinishReason::kStop, kTotals);
  const auto events = events_of(text);
  ASSERT_EQ(events.size(), 4U);
  for (size_t i = 0; i < 3; ++i) EXPECT_FALSE(events[i].contains("restkv"));
  EXPECT_EQ(events[3].at("restkv").at("kept"), 5);
  EXPECT_EQ(events[3].at("choices")[0].at("finish_reason"), "stop");
  EXPECT_EQ(events[0].at("choices")[0].at("delta").at("role"), "assistant");
  EXPECT_EQ(events[1].at("choices")[0].at("delta").at("role"), "assistant");
  EXPECT_EQ(events[2].at("choices")[0].at("index"), 1);
}

TEST(ChatCompletionForm, JoinsToTheWholeForAnySplits) {
  const std::string content = "\u4f60\u597d, w\u00f6rld \U0001F600 and \u20ac more";
  const std::string reasoning = "\u00e4\u00f6\u00fc \U0001F914";
  const std::string arguments = R"({"q": "na\u00efve"})";
  Random random(3);
  for (int round = 0; round < 300; ++round) {
    ChatCompletionForm stream(kStamp, 2, round % 2 == 0, false);
    std::string text = stream.begin({});
    std::array<size_t, 2> at{};
    std::array<size_t, 2> thought{};
    while (at[0] < content.size() || at[1] < content.size()) {
      const size_t choice = random.below(2);
      const auto next = [&](const std::string& whole, size_t& place) {
        const size_t size = std::min(random.below(6), whole.size() - place);
        place += size;
        return whole.substr(place - size, size);
      };
      text += stream.write(
          choice,
          {.content = next(content, at[choice]), .reasoning = next(reasoning, thought[choice])},
          {});
    }
    text += stream.write(0, {.calls = {{0, "id", "f", arguments.substr(0, 5)}}}, {});
    text += stream.write(0, {.calls = {{0, "id", "", arguments.substr(5)}}}, {});
    text += stream.finish(0, FinishReason::kStop, kTotals);
    text += stream.finish(1, FinishReason::kStop, kTotals);
    std::array<std::string, 2> contents;
    std::array<std::string, 2> reasonings;
    std::string joined_arguments;
    for (const Json& event : events_of(text)) {
      for (const Json& choice : event.at("choices")) {
        const auto index = choice.at("index").get<unsigned>();
        const Json& delta = choice.at("delta");
        const std::string piece = delta.value("content", "");
        EXPECT_TRUE(is_utf8(piece));
        EXPECT_EQ(piece.find("\uFFFD"), std::string::npos);
        contents[index] += piece;
        reasonings[index] += delta.value("reasoning", "");
        EXPECT_EQ(delta.value("reasoning", ""), delta.value("reasoning_content", ""));
        if (const Json* calls = delta.find("tool_calls")) {
          joined_arguments += calls->at(size_t{0}).at("function").at("arguments").text();
        }
      }
    }
    EXPECT_THAT(contents, ElementsAre(content, content));
    EXPECT_EQ(joined_arguments, arguments);
    for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(reasoning.starts_with(reasonings[i]));
  }
}

TEST(CompletionAnswer, WholeIsAsOpenAiWritesIt) {
  std::vector<NamedLogprob> logprobs = some_logprobs();
  logprobs[0].has_logprob = false;
  logprobs.push_back({.token = 6, .piece = "\xac!", .logprob = -1});
  logprobs.push_back({.token = 7, .piece = "c", .logprob = -1});
  const std::vector<CompletionAnswer> answers{{.text = "a\u20ac!c", .logprobs = logprobs}};
  EXPECT_EQ(
      text_completion({"cmpl-1", 1700000000, "m"}, answers, true, kTotals).dump(),
      std::string(R"({"id":"cmpl-1","object":"text_completion","created":1700000000,"model":"m",)"
                  "\"choices\":[{\"index\":0,\"text\":\"a\u20ac!c\","
                  R"("logprobs":{"tokens":["a","bytes:\\xe2\\x82","bytes:\\xac\\x21","c"],)"
                  R"("token_logprobs":[null,-9999.0,-1.0,-1.0],)"
                  R"("top_logprobs":[null,{"bytes:\\xe2\\x82":-2.0},{},{}],)"
                  R"("text_offset":[0,1,2,3]},"finish_reason":"stop"}],)") +
          kUsage + "," + kCache + "}");
}

TEST(CompletionStream, JoinsToTheWholeForAnySplits) {
  const std::string whole = "x\u20acy\U0001F600z";
  Random random(5);
  for (int round = 0; round < 200; ++round) {
    CompletionStream stream(kStamp, 1, round % 2 == 0);
    std::string text;
    std::vector<int> offsets;
    for (size_t at = 0; at < whole.size();) {
      const size_t size = std::min(1 + random.below(3), whole.size() - at);
      const std::string piece = whole.substr(at, size);
      const NamedLogprob logprob{.token = 1, .piece = piece, .logprob = -1};
      text += stream.write(0, piece, {&logprob, 1});
      at += size;
    }
    text += stream.finish(0, FinishReason::kLength, kTotals);
    std::string joined;
    const auto events = events_of(text);
    for (const Json& event : events) {
      for (const Json& choice : event.at("choices")) {
        joined += choice.at("text").text();
        if (choice.at("logprobs").is_null()) continue;
        for (const int offset : choice.at("logprobs").at("text_offset").get<std::vector<int>>()) {
          offsets.push_back(offset);
        }
      }
    }
    EXPECT_EQ(joined, whole);
    EXPECT_TRUE(std::ranges::is_sorted(offsets));
    EXPECT_EQ(events.back().contains("usage"), round % 2 == 0);
    EXPECT_TRUE(events.back().contains("restkv"));
  }
}

TEST(NativeAnswer, HasTheFieldsOfLlamaCpp) {
  NativeAnswer answer{.content = "a\n",
                      .tokens = {5, 6},
                      .model = "m",
                      .prompt = "p",
                      .stop_type = "word",
                      .stopping_word = "x",
                      .options = {},
                      .logprobs = some_logprobs(),
                      .totals = kTotals,
                      .times = {.prompt = 0.5, .answer = 2}};
  answer.options.logit_bias = {{4, -std::numeric_limits<float>::infinity()}, {5, 1.5F}};
  const Json json = native_answer(answer);
  for (const char* name :
       {"index", "content", "tokens", "id_slot", "stop", "model", "tokens_predicted",
        "tokens_evaluated", "generation_settings", "prompt", "has_new_line", "truncated",
        "stop_type", "stopping_word", "tokens_cached", "timings", "completion_probabilities"}) {
    EXPECT_TRUE(json.contains(name)) << name;
  }
  EXPECT_EQ(json.at("has_new_line"), true);
  EXPECT_EQ(json.at("generation_settings").at("logit_bias").dump(), "[[4,false],[5,1.5]]");
  EXPECT_EQ(
      json.at("timings").dump(),
      R"({"cache_n":4,"prompt_n":6,"prompt_ms":500.0,"prompt_per_token_ms":83.33333333333333,)"
      R"("prompt_per_second":12.0,"predicted_n":3,"predicted_ms":2000.0,)"
      R"("predicted_per_token_ms":666.6666666666666,"predicted_per_second":1.5})");
  EXPECT_EQ(json.at("completion_probabilities")[0].at("id"), 3);
  EXPECT_EQ(native_chunk(0, "a", {5}, {.prompt = 2, .completion = 1}),
            "data: {\"index\":0,\"content\":\"a\",\"tokens\":[5],\"stop\":false,\"id_slot\":-1,"
            "\"tokens_predicted\":1,\"tokens_evaluated\":2}\n\n");
}

TEST(NativeAnswer, SaysWhyItEnds) {
  GenerationResult result;
  EXPECT_STREQ(stop_type(result), "eos");
  result.last_token_is_pending = true;
  EXPECT_STREQ(stop_type(result), "word");
  result.finish_reason = FinishReason::kLength;
  EXPECT_STREQ(stop_type(result), "limit");
}

TEST(HttpError, IsAsClientsExpectIt) {
  EXPECT_EQ(HttpError(400, "bad", {.param = "n", .code = "c"}).json(),
            R"({"error":{"message":"bad","type":"invalid_request_error","param":"n","code":"c"}})");
  EXPECT_EQ(HttpError(503, "busy").json(),
            R"({"error":{"message":"busy","type":"unavailable_error","param":null,"code":null}})");
  EXPECT_EQ(http_error(Error(ErrorCode::kIo, "/secret/file")).json().find("secret"),
            std::string::npos);
  EXPECT_EQ(sse_error(HttpError(500, "x")).substr(0, 20), "event: error\ndata: {");
}

TEST(Listings, AreAsClientsExpectThem) {
  const ModelCard card{
      .id = "m", .created = 5, .context = 2048, .vocabulary = 100, .layers = 2, .bytes = 7};
  EXPECT_EQ(models_json({&card, 1}).dump(),
            R"({"object":"list","data":[{"id":"m","object":"model","created":5,)"
            R"("owned_by":"restkv","max_model_len":2048,"meta":{"n_ctx_train":2048,)"
            R"("n_vocab":100,"n_layer":2,"size":7}}]})");
  const SlotState slot{.id = 1,
                       .state = "writing",
                       .is_processing = true,
                       .prompt_tokens = 9,
                       .read_tokens = 9,
                       .written_tokens = 2,
                       .kept = {4, 5},
                       .kv_bytes = 8};
  EXPECT_EQ(slots_json({&slot, 1}).dump(),
            R"([{"id":1,"state":"writing","is_processing":true,"n_prompt_tokens":9,)"
            R"("n_prompt_tokens_processed":9,"n_decoded":2,"kept":[4,5],"kv_bytes":8}])");
  const ServerProperties properties{.model = card,
                                    .version = "1",
                                    .model_path = "f",
                                    .chat_template = "",
                                    .bos_token = "",
                                    .eos_token = "</s>",
                                    .slots = 3,
                                    .defaults = {}};
  EXPECT_EQ(props_json(properties).at("total_slots"), 3);
  EXPECT_EQ(tokenizer_info_json(properties).at("eos_token"), "</s>");
  EXPECT_TRUE(tokenizer_info_json(properties).at("bos_token").is_null());
}

TEST(AnswerId, HasAllBits) {
  EXPECT_EQ(answer_id("cmpl-", 1, 0xFFFFFFFFFFFFFFFF), "cmpl-0000000000000001ffffffffffffffff");
}

}  // namespace
}  // namespace restkv::server
