#include "eval/multi_turn.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "restkv/compression_options.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "support/text_model.h"

namespace restkv::eval {
namespace {

using ::restkv::testing::numbers_text;
using ::restkv::testing::TextModel;
using ::testing::Each;
using ::testing::ElementsAre;

constexpr size_t kNewTokens = 8;

/// A random model with the real tokenizer and its chat template.
class ConversationTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { text_model = std::make_unique<TextModel>(2048); }
  static void TearDownTestSuite() { text_model.reset(); }

  ConversationTest() : engine_(text_model->model), answerer_(text_model->tokenizer, engine_, {}) {
    sample_.id = "conversation";
    sample_.max_new_tokens = kNewTokens;
    for (size_t t = 0; t < 3; ++t) {
      Turn turn;
      turn.prompt = numbers_text(20 + t, t);
      turn.answer_prefix = fmt::format("The answer to {} is", t);
      turn.forced_answer =
          fmt::format("{} of course {}.", turn.answer_prefix, numbers_text(5, 9 + t));
      sample_.turns.push_back(turn);
    }
  }

  MultiTurnResult hold(const std::string& method, int budget, bool chat = false) {
    SessionOptions options;
    options.compression = default_options(method);
    if (budget > 0) options.compression.budget = budget;
    options.kv_type = KvType::kF32;
    return converse(text_model->model, text_model->tokenizer, answerer_, sample_, options,
                    {.chat = chat}, [](double) { return true; });
  }

  /// The continuation of a text that is read in one go.
  std::string continued(const std::vector<int32_t>& tokens) {
    std::vector<CacheRequest> requests(1);
    requests[0].options = default_options("full");
    requests[0].kv_type = KvType::kF32;
    const std::vector<float> logits = engine_.prefill(tokens, requests);
    return answerer_.generate(sample_, {&logits, 1}, {&requests[0].cache, 1}).at(0).answer.text;
  }

  static std::unique_ptr<TextModel> text_model;
  Engine engine_;
  Answerer answerer_;
  Sample sample_;
};

std::unique_ptr<TextModel> ConversationTest::text_model;

/// Tokens of the parts of a text, each encoded by itself.
std::vector<int32_t> tokens_of(const Tokenizer& tokenizer, const std::vector<std::string>& parts) {
  std::vector<int32_t> tokens;
  for (const std::string& part : parts) {
    const std::vector<int32_t> more = tokenizer.encode(part, tokens.empty(), true);
    tokens.insert(tokens.end(), more.begin(), more.end());
  }
  return tokens;
}

TEST_F(ConversationTest, WithTheFullCacheItIsTheWholeTextReadAtOnce) {
  sample_.prompt = numbers_text(50, 77);
  const MultiTurnResult result = hold("full", 0);
  const std::vector<Turn>& turns = sample_.turns;
  std::vector<std::string> parts{sample_.prompt};
  for (size_t t = 0; t < turns.size(); ++t) {
    parts.push_back((t == 0 ? "" : "\n\n") + turns[t].prompt + "\n\n" + turns[t].answer_prefix);
    const std::vector<int32_t> tokens = tokens_of(text_model->tokenizer, parts);
    EXPECT_EQ(result.timed.answer.turn_texts.at(t), continued(tokens)) << t;
    EXPECT_EQ(result.timed.answer.turn_tokens.at(t), tokens.size());
    parts.push_back(turns[t].forced_answer.substr(turns[t].answer_prefix.size()));
  }
  EXPECT_EQ(result.read_tokens, result.timed.answer.turn_tokens.back());
}

TEST_F(ConversationTest, InAChatItIsTheTemplatesText) {
  sample_.prompt = numbers_text(50, 77);
  const MultiTurnResult result = hold("full", 0, true);
  std::vector<ChatMessage> messages;
  for (size_t t = 0; t < sample_.turns.size(); ++t) {
    const Turn& turn = sample_.turns[t];
    messages.push_back({"user", (t == 0 ? sample_.prompt : "") + turn.prompt});
    const std::string text =
        text_model->tokenizer.apply_chat_template(messages) + turn.answer_prefix;
    // Tokens may be cut differently where the parts meet, so texts are compared, and lengths
    // nearly.
    EXPECT_NEAR(static_cast<double>(result.timed.answer.turn_tokens[t]),
                static_cast<double>(text_model->tokenizer.encode(text, true, true).size()), 4.0);
    messages.push_back({"assistant", turn.forced_answer});
  }
}

TEST_F(ConversationTest, EveryTurnsPromptIsCompressed) {
  sample_.prompt = numbers_text(60, 77);
  for (const char* method : {"snapkv", "streaming-llm"}) {
    const MultiTurnResult result = hold(method, 48);
    EXPECT_THAT(result.timed.answer.turn_tokens, Each(48U)) << method;
    EXPECT_EQ(result.timed.answer.turn_texts.size(), 3U);
    EXPECT_GT(result.compress_seconds, 0);
  }
}

TEST_F(ConversationTest, AnUndoneTurnLeavesNoTrace) {
  sample_.prompt = numbers_text(60, 77);
  for (const bool forced : {true, false}) {
    if (!forced) {
      for (Turn& turn : sample_.turns) turn.forced_answer.clear();
    }
    const auto plain = hold("snapkv", 48).timed.answer.turn_texts;
    EXPECT_NE(plain[0], plain[1]);
    EXPECT_NE(plain[1], plain[2]);
    Sample with_undone = sample_;
    Turn undone = sample_.turns[0];
    undone.prompt = numbers_text(30, 123);
    undone.undone = true;
    with_undone.turns.insert(with_undone.turns.begin() + 2, undone);
    std::swap(sample_, with_undone);
    const auto texts = hold("snapkv", 48).timed.answer.turn_texts;
    EXPECT_THAT(texts, ElementsAre(plain[0], plain[1], texts.at(2), plain[2]));
    std::swap(sample_, with_undone);

    // The same turn twice, also as the very first one.
    Sample repeated = sample_;
    undone = sample_.turns[0];
    undone.undone = true;
    repeated.turns.insert(repeated.turns.begin(), undone);
    std::swap(sample_, repeated);
    const auto again = hold("snapkv", 48).timed.answer.turn_texts;
    EXPECT_THAT(again, ElementsAre(plain[0], plain[0], plain[1], plain[2]));
    std::swap(sample_, repeated);
  }
}

TEST_F(ConversationTest, AFreeHistoryIsWhatTheModelSaid) {
  for (Turn& turn : sample_.turns) turn.forced_answer.clear();
  const MultiTurnResult result = hold("full", 0);
  // A random model writes no end tokens, so every answer has all its tokens. They enter one by one,
  // the last with the next turn.
  std::vector<size_t> expected;
  size_t tokens = 0;
  for (size_t t = 0; t < sample_.turns.size(); ++t) {
    const Turn& turn = sample_.turns[t];
    tokens += tokens_of(text_model->tokenizer,
                        {(t == 0 ? "" : "\n\n") + turn.prompt + "\n\n" + turn.answer_prefix})
                  .size();
    expected.push_back(tokens);
    tokens += kNewTokens;
  }
  EXPECT_EQ(result.timed.answer.turn_tokens, expected);
  EXPECT_EQ(result.timed.decode_steps, sample_.turns.size() * (kNewTokens - 1));
}

TEST_F(ConversationTest, CanBeInterrupted) {
  SessionOptions options;
  options.compression = default_options("full");
  try {
    (void)converse(text_model->model, text_model->tokenizer, answerer_, sample_, options, {},
                   [](double done) { return done < 0.5; });
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInterrupted);
  }
}

}  // namespace
}  // namespace restkv::eval
