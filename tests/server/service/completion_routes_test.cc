#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "server/service/served_model.h"

namespace restkv::server {
namespace {

using testing::ServedModel;

class CompletionRoutes : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { served_ = new ServedModel(); }
  static void TearDownTestSuite() {
    delete served_;
    served_ = nullptr;
  }
  static ServedModel* served_;
};
ServedModel* CompletionRoutes::served_ = nullptr;

Json completion(Json prompt) {
  return Json::object({{"prompt", std::move(prompt)}, {"temperature", 0}, {"max_tokens", 6}});
}

TEST_F(CompletionRoutes, PromptsHaveChoicesInOrder) {
  Json body = completion(Json::array({"One and", "Two or"}));
  body["n"] = 2;
  const Json both = served_->post_json("/v1/completions", body);
  ASSERT_EQ(both["choices"].size(), 4);
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(both["choices"][i]["index"].get<size_t>(), i);
  const Json second = served_->post_json("/v1/completions", completion("Two or"));
  EXPECT_EQ(both["choices"][size_t{2}]["text"].text(), second["choices"][size_t{0}]["text"].text());
}

TEST_F(CompletionRoutes, EchoScoresThePrompt) {
  Json body = completion("A prompt to be scored");
  body["echo"] = true;
  body["logprobs"] = 2;
  body["max_tokens"] = 1;
  const Json answer = served_->post_json("/v1/completions", body);
  const Json& choice = answer["choices"][size_t{0}];
  const Json& logprobs = choice["logprobs"];
  const size_t prompt = answer["usage"]["prompt_tokens"].get<size_t>();
  ASSERT_EQ(logprobs["tokens"].size(), prompt + 1);
  EXPECT_TRUE(logprobs["token_logprobs"][size_t{0}].is_null());
  EXPECT_EQ(logprobs["top_logprobs"][size_t{1}].size(), 2);
  EXPECT_TRUE(choice["text"].text().starts_with("A prompt to be scored"));

  // The same as of the tokens that `Engine::score` has seen.
  const Service& service = served_->service();
  const std::vector<int32_t> tokens = service.tokenizer.encode("A prompt to be scored", true, true);
  Engine engine(service.model);
  engine.score(tokens, [&](size_t first, Matrix<const float> logits) {
    for (size_t row = 0; row < logits.rows && first + row + 1 < tokens.size(); ++row) {
      double sum = 0;
      for (const float logit : logits.row_span(row)) sum += std::exp(static_cast<double>(logit));
      const auto next = static_cast<size_t>(tokens[first + row + 1]);
      const double expected = static_cast<double>(logits.row_span(row)[next]) - std::log(sum);
      EXPECT_NEAR(logprobs["token_logprobs"][first + row + 1].get<double>(), expected, 1e-3);
    }
  });
}

TEST_F(CompletionRoutes, ThePromptAloneCanBeScored) {
  Json body = completion("Only this");
  body["echo"] = true;
  body["logprobs"] = 0;
  body["max_tokens"] = 0;
  const Json answer = served_->post_json("/v1/completions", body);
  EXPECT_EQ(answer["choices"][size_t{0}]["text"].text(), "Only this");
  EXPECT_EQ(answer["usage"]["completion_tokens"].get<int>(), 0);
}

TEST_F(CompletionRoutes, LlamaCppsOwnForm) {
  const Json answer = served_->post_json(
      "/completion",
      Json::object(
          {{"prompt", "Once"}, {"n_predict", 5}, {"temperature", 0}, {"return_tokens", true}}));
  EXPECT_EQ(answer["tokens"].size(), 5);
  EXPECT_EQ(answer["stop_type"].text(), "limit");
  EXPECT_EQ(answer["timings"]["predicted_n"].get<int>(), 5);
  const Json grammar =
      served_->post_json("/completion", Json::object({{"prompt", "Once"},
                                                      {"n_predict", 5},
                                                      {"temperature", 0},
                                                      {"grammar", "root ::= \"yes\" | \"no\""}}));
  const std::string content = grammar["content"].text();
  EXPECT_TRUE(content == "yes" || content == "no") << content;
  (void)served_->post_json("/completion",
                           Json::object({{"prompt", "Once"}, {"grammar", "root ::= ("}}), 400);
}

TEST_F(CompletionRoutes, TextsAndTokens) {
  const Json tokens = served_->post_json(
      "/tokenize", Json::object({{"content", "Grüße an alle"}, {"with_pieces", false}}));
  const Json text = served_->post_json("/detokenize", Json::object({{"tokens", tokens["tokens"]}}));
  EXPECT_EQ(text["content"].text(), "Grüße an alle");
  const Json pieces = served_->post_json(
      "/tokenize", Json::object({{"content", "Grüße an alle"}, {"with_pieces", true}}));
  ASSERT_EQ(pieces["tokens"].size(), tokens["tokens"].size());
  for (size_t i = 0; i < tokens["tokens"].size(); ++i) {
    EXPECT_EQ(pieces["tokens"][i]["id"], tokens["tokens"][i]);
  }
  const Json long_text =
      Json::object({{"content", std::string((size_t{1} << 20) + 1, '\n')}, {"with_pieces", true}});
  (void)served_->post_json("/tokenize", long_text, 413);
}

TEST_F(CompletionRoutes, LogprobsOfManyPromptsHaveALimit) {
  Json prompts = Json::array();
  for (size_t i = 0; i < 60; ++i) prompts.push_back(std::string(1000, '7'));
  Json body = completion(prompts);
  body["echo"] = true;
  body["logprobs"] = 20;
  body["max_tokens"] = 0;
  EXPECT_EQ(served_->post_json("/v1/completions", body, 400)["error"]["param"].text(), "logprobs");
}

TEST_F(CompletionRoutes, MorePromptsThanTheQueueTakes) {
  ServiceOptions options;
  options.scheduler.max_queue = 4;
  const ServedModel served(options);
  Json prompts = Json::array();
  for (size_t i = 0; i < 40; ++i) prompts.push_back(std::to_string(i));
  Json body = completion(prompts);
  body["max_tokens"] = 1;
  EXPECT_EQ(served.post_json("/v1/completions", body)["choices"].size(), 40);
}

}  // namespace
}  // namespace restkv::server
