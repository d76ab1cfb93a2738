// The same request gets the same tokens, whoever else is served.
#include <gtest/gtest.h>

#include <random>
#include <thread>

#include "server/scheduler/scheduler_test.h"

namespace restkv::server::testing {
namespace {

/// Only every third token.
class EveryThird : public TokenConstraint {
 public:
  void apply(std::span<float> logits) override {
    for (size_t i = 0; i < logits.size(); ++i) {
      if (i % 3 != 0 || i < 20) logits[i] = -std::numeric_limits<float>::infinity();
    }
  }
  void accept(int32_t token) override { EXPECT_EQ(token % 3, 0); }
};

class EqualityTest : public SchedulerTest {
 protected:
  static std::vector<Request> different_requests() {
    const std::vector<std::string> methods = {"restkv", "h2o",   "full",   "streaming-llm",
                                              "tova",   "knorm", "snapkv", "lagkv"};
    std::vector<Request> all;
    for (size_t i = 0; i < 40; ++i) {
      Request& asked =
          all.emplace_back(request(text(i % 7 == 0 ? 1 : 30 + 41 * i % 300, i), 12 + i));
      SessionOptions options = session(methods[i % methods.size()], static_cast<int>(40 + i));
      options.kv_type = i % 5 == 1 ? KvType::kQ8 : KvType::kF16;
      options.interval = i % 3 == 0 ? 4 : 0;
      // Also chunks whose last one has a single token.
      options.chunk = i % 4 == 2 ? asked.prompt.size() - 1 : i % 4 == 3 ? 64 : 0;
      asked.session = options;
      asked.reuse = false;
      SamplingOptions& sampling = asked.generation.sampling;
      sampling.temperature = i % 2 == 0 ? 0.0F : 0.9F;
      sampling.seed = static_cast<uint32_t>(i);
      if (i % 6 == 1) sampling.repeat_penalty = 1.3F;
      if (i % 5 == 0) asked.generation.logprobs = 3;
      if (i % 8 == 3) asked.constraint = [] { return std::make_unique<EveryThird>(); };
      if (i % 9 == 4) asked.generation.stop = {"e", "t"};
    }
    return all;
  }
};

TEST_F(EqualityTest, AloneAndUnderLoad) {
  const std::vector<Request> requests = different_requests();
  std::vector<GenerationResult> alone;
  for (const Request& asked : requests) alone.push_back(expected(asked, *asked.session));
  for (const double share : {0.75, 0.1, 0.99}) {
    SchedulerOptions options;
    options.prompt_share = share;
    options.max_prompts = share > 0.5 ? 2 : 5;
    Scheduler scheduler(model(), tokenizer(), options, std::make_shared<ThreadPool>(2));
    std::vector<Sent> sent;
    for (const Request& asked : requests) sent.push_back(send(scheduler, asked));
    for (size_t i = 0; i < sent.size(); ++i) {
      sent[i].recorder->wait();
      const Heard& heard = sent[i].recorder->answer();
      ASSERT_TRUE(heard.result) << i << ": " << heard.error->what();
      EXPECT_EQ(heard.result->tokens, alone[i].tokens)
          << i << " " << requests[i].session->compression.method;
      EXPECT_EQ(heard.result->text, alone[i].text);
      EXPECT_EQ(heard.result->finish_reason, alone[i].finish_reason);
      ASSERT_EQ(heard.logprobs.size(), alone[i].logprobs.size());
      for (size_t t = 0; t < heard.logprobs.size(); ++t) {
        EXPECT_EQ(heard.logprobs[t].logprob, alone[i].logprobs[t].logprob);
        EXPECT_EQ(heard.logprobs[t].likeliest, alone[i].logprobs[t].likeliest);
      }
    }
    scheduler.shutdown(std::chrono::seconds(1));
    const SchedulerStatus status = scheduler.status();
    // Where prompts get little time, there is rarely more than one answer.
    EXPECT_GT(status.decode_rows, (share > 0.5 ? 2 : 1) * status.decode_steps);
    EXPECT_EQ(status.completed, requests.size());
  }
}

TEST_F(EqualityTest, WithMoreAnswersThanOneStepDecodes) {
  SchedulerOptions options;
  options.max_answers = 80;
  Scheduler scheduler(model(), tokenizer(), options);
  std::vector<Sent> sent;
  const Request asked = request(text(40, 9), 60);
  for (size_t i = 0; i < 9; ++i) {
    Request many = asked;
    many.n = 8;
    many.reuse = false;
    sent.push_back(send(scheduler, many));
  }
  const GenerationResult alone = expected(asked, SessionOptions());
  for (const Sent& each : sent) {
    each.recorder->wait();
    for (size_t i = 0; i < 8; ++i) {
      EXPECT_EQ(each.recorder->answer(i).result->tokens, alone.tokens);
    }
  }
}

TEST_F(EqualityTest, FromManyThreadsWithCancellations) {
  const std::vector<Request> requests = different_requests();
  std::vector<GenerationResult> alone;
  for (const Request& asked : requests) alone.push_back(expected(asked, *asked.session));
  Scheduler scheduler(model(), tokenizer(), {});
  std::vector<std::thread> threads;
  for (size_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      std::mt19937 random(static_cast<uint32_t>(t));
      for (size_t round = 0; round < 30; ++round) {
        const size_t i = random() % requests.size();
        const Sent sent = send(scheduler, requests[i]);
        const bool cancels = random() % 3 == 0;
        if (cancels) {
          std::this_thread::sleep_for(std::chrono::microseconds(random() % 20000));
          scheduler.cancel(sent.id);
        }
        sent.recorder->wait();
        const Heard& heard = sent.recorder->answer();
        if (heard.result) {
          EXPECT_EQ(heard.result->tokens, alone[i].tokens);
        } else {
          ASSERT_TRUE(cancels && heard.error);
          EXPECT_EQ(heard.error->code(), ErrorCode::kInterrupted);
        }
        (void)scheduler.status();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  scheduler.shutdown(std::chrono::seconds(10));
  const SchedulerStatus status = scheduler.status();
  EXPECT_EQ(status.completed + status.cancelled, 120U);
  EXPECT_EQ(status.failed, 0U);
  EXPECT_EQ(status.waiting, 0U);
}

}  // namespace
}  // namespace restkv::server::testing
