// A prompt that extends what a kept sequence has read.
#include <gtest/gtest.h>

#include <algorithm>

#include "restkv/engine.h"
#include "server/scheduler/scheduler_test.h"
#include "server/scheduler/session_key.h"

namespace restkv::server::testing {
namespace {

class PrefixTest : public SchedulerTest {
 protected:
  /// A conversation of several turns in the library alone.
  class Conversation {
   public:
    explicit Conversation(const SessionOptions& options) : session_(Engine(model()), options) {}

    std::vector<int32_t> turn(std::span<const int32_t> prompt, const GenerationOptions& options) {
      const std::span<const int32_t> rest = prompt.subspan(read.size());
      if (rest.size() == 1) {
        append(rest[0]);
      } else {
        (void)session_.append(rest);
        read.insert(read.end(), rest.begin(), rest.end());
      }
      return generate(
                 [&](int32_t token) {
                   append(token);
                   return session_.logits();
                 },
                 session_.logits(), tokenizer(), options)
          .tokens;
    }

    std::vector<int32_t> read;

   private:
    void append(int32_t token) {
      Session* const one[] = {&session_};
      Session::append_together(one, {&token, 1});
      read.push_back(token);
    }

    Session session_;
  };
};

TEST_F(PrefixTest, AFurtherTurnPaysItsOwnTokensOnly) {
  for (const char* method : {"snapkv", "h2o", "full", "streaming-llm"}) {
    Scheduler scheduler(model(), tokenizer(), {});
    SessionOptions options = session(method, 60);
    options.interval = 8;
    Conversation alone(options);
    std::vector<int32_t> prompt = text(70, 1);
    size_t read = 0;
    for (size_t turn = 0; turn < 4; ++turn) {
      Request asked = request(prompt, 20);
      asked.session = options;
      const Sent sent = send(scheduler, asked);
      sent.recorder->wait();
      const Heard& heard = sent.recorder->answer();
      ASSERT_TRUE(heard.result) << heard.error->what();
      EXPECT_EQ(heard.usage->prompt_tokens, prompt.size());
      EXPECT_EQ(heard.usage->cached_tokens, alone.read.size());
      read += prompt.size() - alone.read.size();
      EXPECT_EQ(heard.tokens, alone.turn(prompt, asked.generation)) << method << " turn " << turn;
      prompt.insert(prompt.end(), heard.tokens.begin(), heard.tokens.end());
      // The last token of the answer was not read. Once there is nothing but that.
      if (turn != 1) {
        const std::vector<int32_t> question = text(25, turn + 7);
        prompt.insert(prompt.end(), question.begin(), question.end());
      }
    }
    scheduler.shutdown(std::chrono::seconds(1));
    const SchedulerStatus status = scheduler.status();
    EXPECT_EQ(status.prefix_hits, 3U);
    EXPECT_EQ(status.tokens_read, read);
    EXPECT_EQ(status.slots.size(), 4U);
  }
}

TEST_F(PrefixTest, OnlyTheSameOptionsFit) {
  Scheduler scheduler(model(), tokenizer(), {});
  const auto cached = [&](const SessionOptions& options, bool reuse = true) {
    Request asked = request(text(70, 1), 5);
    asked.session = options;
    asked.reuse = reuse;
    const Sent sent = send(scheduler, asked);
    sent.recorder->wait();
    std::vector<int32_t> prompt = asked.prompt;
    return sent.recorder->answer().usage->cached_tokens;
  };
  SessionOptions options = session("snapkv", 60);
  EXPECT_EQ(cached(options), 0U);
  Request longer = request(text(70, 1), 5);
  longer.session = options;
  const Sent first = send(scheduler, longer);
  first.recorder->wait();
  // The history holds an answer: another answer to the same prompt reads it again.
  EXPECT_EQ(first.recorder->answer().usage->cached_tokens, 0U);
  const std::vector<int32_t> answer = first.recorder->answer().tokens;
  longer.prompt.insert(longer.prompt.end(), answer.begin(), answer.end());
  const auto cached_longer = [&](const SessionOptions& of, bool reuse = true) {
    Request asked = longer;
    asked.session = of;
    asked.reuse = reuse;
    const Sent sent = send(scheduler, asked);
    sent.recorder->wait();
    return sent.recorder->answer().usage->cached_tokens;
  };
  EXPECT_EQ(cached_longer(options, false), 0U);
  SessionOptions other = options;
  other.compression.budget = 61;
  EXPECT_EQ(cached_longer(other), 0U);
  other = options;
  other.kv_type = KvType::kQ8;
  EXPECT_EQ(cached_longer(other), 0U);
  other = options;
  other.interval = 3;
  EXPECT_EQ(cached_longer(other), 0U);
  EXPECT_EQ(cached_longer(options), 74U);
}

TEST_F(PrefixTest, TheSamePromptNeedsNothingIfNothingWasWritten) {
  Scheduler scheduler(model(), tokenizer(), {});
  const Sent warm_up = send(scheduler, request(text(90, 1), 0));
  warm_up.recorder->wait();
  ASSERT_TRUE(warm_up.recorder->answer().result);
  EXPECT_TRUE(warm_up.recorder->answer().result->tokens.empty());
  const Request asked = request(text(90, 1), 20);
  const Sent sent = send(scheduler, asked);
  sent.recorder->wait();
  EXPECT_EQ(sent.recorder->answer().usage->cached_tokens, 90U);
  EXPECT_EQ(sent.recorder->answer().tokens, expected(asked, SessionOptions()).tokens);
}

TEST_F(PrefixTest, ACommonBeginningIsReadOnce) {
  for (const char* method : {"full", "restkv", "keydiff"}) {
    SCOPED_TRACE(method);
    SessionOptions options = session(method, 400);
    options.kv_type = KvType::kF32;
    Scheduler scheduler(model(), tokenizer(), {});
    const auto ask = [&](size_t seed, size_t common, size_t read_before) {
      std::vector<int32_t> prompt = text(common, 1);
      const std::vector<int32_t> question = text(50, seed);
      prompt.insert(prompt.end(), question.begin(), question.end());
      Request asked = request(prompt, 20);
      asked.session = options;
      const Sent sent = send(scheduler, asked);
      sent.recorder->wait();
      const Heard& heard = sent.recorder->answer();
      ASSERT_TRUE(heard.result) << heard.error->what();
      EXPECT_EQ(heard.usage->cached_tokens, read_before);
      EXPECT_EQ(heard.tokens, expected(asked, options).tokens);
      EXPECT_EQ(heard.usage->kept, prompt.size() + 19);
    };
    const size_t read_again = std::string(method) == "restkv" ? 32 : 1;
    ask(5, 150, 0);
    ask(6, 150, 150);
    ask(5, 150, 200 - read_again);  // the same again
    ask(7, 80, 80);
    ask(8, 50, 0);  // too little to be worth a copy
    scheduler.shutdown(std::chrono::seconds(1));
    EXPECT_EQ(scheduler.status().prefix_hits, 3U);
  }
}

TEST_F(PrefixTest, ACommonBeginningThatWasCutIsReadAgain) {
  Scheduler scheduler(model(), tokenizer(), {});
  for (const auto& [method, budget] : {std::pair("restkv", 100), std::pair("h2o", 400)}) {
    for (size_t seed = 5; seed < 7; ++seed) {
      std::vector<int32_t> prompt = text(150, 1);
      prompt.push_back(static_cast<int32_t>(seed));
      Request asked = request(prompt, 4);
      asked.session = session(method, budget);
      const Sent sent = send(scheduler, asked);
      sent.recorder->wait();
      EXPECT_EQ(sent.recorder->answer().usage->cached_tokens, 0U) << method;
    }
  }
}

TEST_F(PrefixTest, TheOldestGoesFirst) {
  SchedulerOptions options;
  options.max_kept = 3;
  Scheduler scheduler(model(), tokenizer(), options);
  const auto cached = [&](size_t seed, size_t length) {
    const Sent sent = send(scheduler, request(text(length, seed), 0));
    sent.recorder->wait();
    return sent.recorder->answer().usage->cached_tokens;
  };
  for (size_t seed = 1; seed <= 3; ++seed) EXPECT_EQ(cached(seed, 40), 0U);
  EXPECT_EQ(cached(1, 40), 40U);  // now 2 is the oldest
  EXPECT_EQ(cached(4, 40), 0U);
  EXPECT_EQ(cached(2, 40), 0U);  // drops 3
  EXPECT_EQ(cached(1, 40), 40U);
  scheduler.shutdown(std::chrono::seconds(1));
  EXPECT_EQ(scheduler.status().evictions, 2U);
}

TEST(SessionKeyTest, TellsOptionsApart) {
  SessionOptions options;
  const std::string key = session_key(options);
  EXPECT_EQ(session_key(options), key);
  const auto differs = [&](const std::function<void(SessionOptions&)>& change) {
    SessionOptions other = options;
    change(other);
    return session_key(other) != key;
  };
  EXPECT_TRUE(differs([](SessionOptions& o) { o.compression.budget = 7; }));
  EXPECT_TRUE(differs([](SessionOptions& o) { o.compression.method = "snapkv"; }));
  EXPECT_TRUE(differs([](SessionOptions& o) { o.compression.kernel = 7; }));
  EXPECT_TRUE(differs([](SessionOptions& o) { o.kv_type = KvType::kF32; }));
  EXPECT_TRUE(differs([](SessionOptions& o) { o.chunk = 100; }));
  EXPECT_TRUE(differs([](SessionOptions& o) { o.interval = 100; }));
  EXPECT_TRUE(differs([](SessionOptions& o) { o.decode_budget = 100; }));
  EXPECT_TRUE(differs([](SessionOptions& o) { o.compact_positions = true; }));
  EXPECT_TRUE(differs([](SessionOptions& o) { o.sparse = parse_sparse("flexprefill"); }));
}

}  // namespace
}  // namespace restkv::server::testing
