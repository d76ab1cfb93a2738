#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "server/service/served_model.h"

namespace restkv::server {
namespace {

using testing::Client;
using testing::ServedModel;
using testing::soon;

Json chat(const std::string& question) {
  return Json::object(
      {{"messages", Json::array({Json::object({{"role", "user"}, {"content", question}})})},
       {"temperature", 0},
       {"max_tokens", 12}});
}

class ChatRoutes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { served_ = new ServedModel(); }
  static void TearDownTestSuite() {
    delete served_;
    served_ = nullptr;
  }
  static ServedModel* served_;
};
ServedModel* ChatRoutes::served_ = nullptr;

TEST_F(ChatRoutes, AnswersWholeAndInPieces) {
  Json body = chat("How are you?");
  const Json whole = served_->post_json("/v1/chat/completions", body);
  const std::string text = whole["choices"][size_t{0}]["message"]["content"].text();
  EXPECT_FALSE(text.empty());
  EXPECT_EQ(whole["usage"]["completion_tokens"].get<int>(), 12);

  body["stream"] = true;
  body["stream_options"] = Json::object({{"include_usage", true}});
  const std::vector<Json> events = served_->stream("/v1/chat/completions", body);
  std::string streamed;
  for (const Json& event : events) {
    if (event["choices"].empty()) continue;
    const Json& delta = event["choices"][size_t{0}]["delta"];
    if (delta.find("content") != nullptr) streamed += delta["content"].text();
  }
  EXPECT_EQ(streamed, text);
  EXPECT_EQ(events.front()["choices"][size_t{0}]["delta"]["role"].text(), "assistant");
  EXPECT_EQ(events.back()["usage"]["completion_tokens"].get<int>(), 12);
  EXPECT_GT(events.back()["restkv"]["kv_bytes"].get<int>(), 0);
}

TEST_F(ChatRoutes, RefuseTooManyMessagesWithoutWritingThem) {
  Json messages = Json::array();
  for (size_t i = 0; i < 9'999; ++i) {
    messages.push_back(
        Json::object({{"role", i % 2 == 0 ? "user" : "assistant"}, {"content", "x"}}));
  }
  const Json body = Json::object({{"messages", std::move(messages)}});
  for (const char* path :
       {"/v1/chat/completions", "/v1/messages/count_tokens", "/apply-template"}) {
    const Json refused = served_->post_json(path, body, 400);
    EXPECT_NE(refused["error"]["message"].text().find("at least"), std::string::npos) << path;
  }
}

TEST_F(ChatRoutes, SeveralAnswersAndSeeds) {
  Json body = chat("Tell a story.");
  body["temperature"] = 1.5;
  body["seed"] = 7;
  body["n"] = 3;
  const Json first = served_->post_json("/v1/chat/completions", body);
  const Json second = served_->post_json("/v1/chat/completions", body);
  ASSERT_EQ(first["choices"].size(), 3);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(first["choices"][i].dump(), second["choices"][i].dump());
  }
  EXPECT_NE(first["choices"][size_t{0}]["message"].dump(),
            first["choices"][size_t{1}]["message"].dump());
  EXPECT_EQ(first["usage"]["completion_tokens"].get<int>(), 36);
}

TEST_F(ChatRoutes, ALaterTurnPaysItsOwnTokens) {
  Json body = chat("A first question that nobody else asks.");
  const Json first = served_->post_json("/v1/chat/completions", body);
  body["messages"].push_back(
      Json::object({{"role", "assistant"},
                    {"content", first["choices"][size_t{0}]["message"]["content"].text()}}));
  body["messages"].push_back(Json::object({{"role", "user"}, {"content", "And then?"}}));
  const Json second = served_->post_json("/v1/chat/completions", body);
  const int cached = second["usage"]["prompt_tokens_details"]["cached_tokens"].get<int>();
  EXPECT_GT(cached, first["usage"]["prompt_tokens"].get<int>() / 2);
}

TEST_F(ChatRoutes, AnswersFollowASchema) {
  Json body = chat("Say something.");
  body["max_tokens"] = 200;
  body["response_format"] = parse_json(
      R"({"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object",
          "properties": {"good": {"type": "boolean"}}, "required": ["good"],
          "additionalProperties": false}}})");
  const Json answer = served_->post_json("/v1/chat/completions", body);
  const Json content = parse_json(answer["choices"][size_t{0}]["message"]["content"].text());
  EXPECT_TRUE(content["good"].is_boolean());
}

TEST_F(ChatRoutes, RefusalsNameTheField) {
  const auto refused = [&](const char* path, Json body, int status, const std::string& param) {
    const Json answer = served_->post_json(path, body, status);
    const Json& error = answer["error"];
    EXPECT_EQ(error["param"].is_null() ? "" : error["param"].text(), param) << answer.dump();
    return error["message"].text();
  };
  Json body = chat("x");
  body["model"] = "gpt-4o";
  EXPECT_NE(refused("/v1/chat/completions", body, 404, "model").find("random"), std::string::npos);
  body = chat("x");
  body["temperature"] = "hot";
  refused("/v1/chat/completions", body, 400, "temperature");
  body = chat("x");
  body["document"] = "doc-77";
  refused("/v1/chat/completions", body, 404, "document");
  std::string words;
  for (int i = 0; i < 4000; ++i) words += " word";
  const std::string message = refused("/v1/chat/completions", chat(words), 400, "messages");
  EXPECT_NE(message.find("2048"), std::string::npos) << message;
  EXPECT_EQ(testing::get(served_->port(), "/v1/chat/completions").status, 405);
}

TEST_F(ChatRoutes, AClientThatGoesAwayIsForgotten) {
  Json body = chat("Write for a long time.");
  body["max_tokens"] = 1500;
  body["stream"] = true;
  body["min_tokens"] = 1500;
  {
    Client client(served_->port());
    client.send(testing::post("/v1/chat/completions", body.dump()));
    EXPECT_FALSE(client.receive_until("\"content\":\"\"").empty());
    client.reset();
  }
  const Scheduler& scheduler = served_->service().scheduler;
  EXPECT_TRUE(soon([&] { return scheduler.status().cancelled > 0; }));
  EXPECT_TRUE(soon([&] { return scheduler.status().writing == 0; }));
}

TEST_F(ChatRoutes, WhatIsKeptOfAnAnswer) {
  const Json answer = served_->post_json("/v1/chat/completions", chat("What is kept?"));
  const Json kept = served_->get_json("/v1/sequences/" + answer["id"].text() + "/kept");
  EXPECT_EQ(kept["tokens"].size(), kept["kept"].size());
  EXPECT_GT(kept["tokens"].size(), answer["usage"]["prompt_tokens"].get<size_t>());
  const size_t all = kept["layers"].get<size_t>() * kept["heads"].get<size_t>();
  for (const Json& count : kept["kept"]) EXPECT_EQ(count.get<size_t>(), all);
  (void)served_->get_json("/v1/sequences/chatcmpl-none/kept", 404);
}

}  // namespace
}  // namespace restkv::server
