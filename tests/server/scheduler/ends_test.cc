// How requests end that do not come to their own end.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "server/scheduler/scheduler_test.h"

namespace restkv::server::testing {
namespace {

using EndsTest = SchedulerTest;

/// Holds the engine thread where a listener calls it, until it is opened.
class Gate {
 public:
  void pass() {
    std::unique_lock lock(mutex_);
    waiting_ = true;
    changed_.notify_all();
    changed_.wait(lock, [&] { return open_; });
  }
  void wait_until_somebody_waits() {
    std::unique_lock lock(mutex_);
    changed_.wait(lock, [&] { return waiting_; });
  }
  void open() {
    const std::scoped_lock lock(mutex_);
    open_ = true;
    changed_.notify_all();
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool waiting_ = false, open_ = false;
};

TEST_F(EndsTest, ACancelledAnswerWritesNothingMore) {
  Scheduler scheduler(model(), tokenizer(), {});
  auto recorder = std::make_shared<Recorder>();
  size_t pieces = 0;
  std::atomic<RequestId> id = 0;
  Gate gate;
  recorder->on_started = [&] { gate.pass(); };
  recorder->on_wrote = [&](const Piece&) {
    if (++pieces == 5) scheduler.cancel(id);
  };
  Request asked = request(text(30, 1), 3000);
  asked.listener = recorder;
  id = scheduler.submit(asked);
  gate.open();
  recorder->wait();
  EXPECT_EQ(pieces, 5U);
  ASSERT_TRUE(recorder->answer().error);
  EXPECT_EQ(recorder->answer().error->code(), ErrorCode::kInterrupted);
  scheduler.cancel(id);  // is over
  const Sent next = send(scheduler, request(text(30, 1), 10));
  next.recorder->wait();
  EXPECT_TRUE(next.recorder->answer().result);
}

TEST_F(EndsTest, WhatWaitsOrIsReadCanBeCancelled) {
  SchedulerOptions options;
  options.max_prompts = 1;
  Scheduler scheduler(model(), tokenizer(), options);
  auto held = std::make_shared<Recorder>();
  Gate gate;
  held->on_started = [&] { gate.pass(); };
  Request asked = request(text(3000, 1), 5);
  asked.listener = held;
  const RequestId reading = scheduler.submit(asked);
  gate.wait_until_somebody_waits();
  const Sent waiting = send(scheduler, request(text(3000, 2), 5));
  EXPECT_EQ(scheduler.status().waiting, 1U);
  scheduler.cancel(reading);
  scheduler.cancel(waiting.id);
  gate.open();
  held->wait();
  waiting.recorder->wait();
  EXPECT_EQ(held->answer().error->code(), ErrorCode::kInterrupted);
  EXPECT_EQ(waiting.recorder->answer().error->code(), ErrorCode::kInterrupted);
  EXPECT_FALSE(waiting.recorder->start());
  scheduler.shutdown(std::chrono::seconds(1));
  const SchedulerStatus status = scheduler.status();
  EXPECT_EQ(status.waiting, 0U);
  EXPECT_EQ(status.cancelled, 2U);
  EXPECT_EQ(status.tokens_read, 0U);
  EXPECT_TRUE(status.slots.empty());
}

TEST_F(EndsTest, AFullQueueSaysWhenToComeBack) {
  SchedulerOptions options;
  options.max_queue = 2;
  Scheduler scheduler(model(), tokenizer(), options);
  auto held = std::make_shared<Recorder>();
  Gate gate;
  held->on_started = [&] { gate.pass(); };
  Request asked = request(text(30, 1), 5);
  asked.listener = held;
  (void)scheduler.submit(asked);
  gate.wait_until_somebody_waits();
  const Sent first = send(scheduler, request(text(30, 2), 5));
  const Sent second = send(scheduler, request(text(30, 3), 5));
  try {
    (void)scheduler.submit(request(text(30, 4), 5));
    ADD_FAILURE() << "a third one was taken";
  } catch (const Busy& busy) {
    EXPECT_GE(busy.retry_after(), 1);
    EXPECT_THAT(busy.what(), ::testing::HasSubstr("2 requests"));
  }
  gate.open();
  for (const Sent& sent : {first, second}) {
    sent.recorder->wait();
    EXPECT_TRUE(sent.recorder->answer().result);
  }
  // Those that belong together may be more than the queue takes, but not if it is full.
  std::vector<std::shared_ptr<Recorder>> recorders;
  std::vector<Request> together;
  for (size_t seed = 5; seed < 15; ++seed) {
    Request& one = together.emplace_back(request(text(30, seed), 5));
    one.listener = recorders.emplace_back(std::make_shared<Recorder>());
  }
  std::vector<Request> one_is_wrong = together;
  one_is_wrong.back().prompt.clear();
  EXPECT_THROW((void)scheduler.submit(one_is_wrong), Error);
  const std::vector<RequestId> ids = scheduler.submit(together);
  ASSERT_EQ(ids.size(), together.size());
  EXPECT_EQ(ids.back(), ids.front() + ids.size() - 1);
  for (const auto& recorder : recorders) {
    recorder->wait();
    EXPECT_TRUE(recorder->answer().result);
  }
  const Sent later = send(scheduler, request(text(30, 4), 5));
  later.recorder->wait();
  EXPECT_TRUE(later.recorder->answer().result);
}

TEST_F(EndsTest, AListenerThatThrowsEndsItsOwnRequestOnly) {
  Scheduler scheduler(model(), tokenizer(), {});
  const Request good = request(text(40, 1), 60);
  const Sent other = send(scheduler, good);
  for (size_t when = 0; when < 3; ++when) {
    auto bad = std::make_shared<Recorder>();
    if (when == 0) bad->on_started = [] { throw std::runtime_error("no"); };
    if (when == 1) bad->on_wrote = [](const Piece&) { throw 7; };
    if (when == 2) bad->on_closed = [] {};
    Request asked = request(text(40, 5), 20);
    asked.n = 2;
    asked.listener = bad;
    if (when == 1) asked.generation.sampling.temperature = 1;
    (void)scheduler.submit(asked);
    bad->wait();
    if (when < 2) {
      EXPECT_FALSE(bad->answer(0).result);
      EXPECT_FALSE(bad->answer(1).result);
    }
  }
  other.recorder->wait();
  EXPECT_EQ(other.recorder->answer().result->tokens, expected(good, SessionOptions()).tokens);
  scheduler.shutdown(std::chrono::seconds(1));
  EXPECT_EQ(scheduler.status().cancelled, 2U);
}

/// Fails at its third token.
class Failing : public TokenConstraint {
 public:
  void apply(std::span<float>) override {}
  void accept(int32_t) override {
    if (++accepted_ == 3) throw std::runtime_error("the grammar is broken");
  }

 private:
  size_t accepted_ = 0;
};

TEST_F(EndsTest, AnAnswerThatFailsFailsAlone) {
  Scheduler scheduler(model(), tokenizer(), {});
  const Request good = request(text(40, 1), 40);
  const Sent other = send(scheduler, good);
  Request bad = request(text(40, 2), 20);
  bad.n = 2;
  size_t made = 0;
  bad.constraint = [&]() -> std::unique_ptr<TokenConstraint> {
    if (made++ == 1) return std::make_unique<Failing>();
    return nullptr;
  };
  const Sent sent = send(scheduler, bad);
  Request worse = request(text(40, 3), 20);
  worse.constraint = []() -> std::unique_ptr<TokenConstraint> { throw std::runtime_error("none"); };
  const Sent never = send(scheduler, worse);
  sent.recorder->wait();
  never.recorder->wait();
  other.recorder->wait();
  EXPECT_EQ(sent.recorder->answer(0).result->tokens.size(), 20U);
  EXPECT_EQ(sent.recorder->answer(1).tokens.size(), 2U);
  EXPECT_THAT(sent.recorder->answer(1).error->what(), ::testing::HasSubstr("grammar"));
  EXPECT_THAT(never.recorder->answer().error->what(), ::testing::HasSubstr("none"));
  EXPECT_EQ(other.recorder->answer().result->tokens, expected(good, SessionOptions()).tokens);
  scheduler.shutdown(std::chrono::seconds(1));
  EXPECT_EQ(scheduler.status().failed, 2U);
}

TEST_F(EndsTest, NoNumbersEndOneSequenceOnly) {
  // Whoever reads token 300 computes no numbers.
  restkv::testing::TemporaryFolder folder;
  restkv::testing::TinyModel broken;
  broken.vocabulary = 512;
  broken.edit_tensor = [](restkv::testing::TinyTensor& tensor) {
    if (tensor.name == "token_embd.weight") {
      std::fill_n(tensor.values.begin() + static_cast<ptrdiff_t>(300 * tensor.cols), tensor.cols,
                  std::numeric_limits<float>::quiet_NaN());
    }
    return true;
  };
  broken.write(folder.file("broken.gguf"));
  const Model broken_model(folder.file("broken.gguf"));
  Scheduler scheduler(broken_model, tokenizer(), {});
  Request good = request(std::vector<int32_t>(40, 33), 60);
  good.generation.logit_bias.emplace_back(300, -std::numeric_limits<float>::infinity());
  good.reuse = false;
  const Sent alone = send(scheduler, good);
  alone.recorder->wait();
  ASSERT_TRUE(alone.recorder->answer().result);
  const Sent together = send(scheduler, good);
  for (const size_t where : {0, 1}) {
    Request bad = request(std::vector<int32_t>(40, 34), 10);
    if (where == 0) bad.prompt[20] = 300;
    if (where == 1) bad.generation.logit_bias.emplace_back(300, 1e6F);
    const Sent sent = send(scheduler, bad);
    sent.recorder->wait();
    ASSERT_TRUE(sent.recorder->answer().error) << where;
    EXPECT_EQ(sent.recorder->answer().error->code(), ErrorCode::kInput);
    EXPECT_EQ(sent.recorder->answer().tokens.size(), where);
  }
  together.recorder->wait();
  ASSERT_TRUE(together.recorder->answer().result);
  EXPECT_EQ(together.recorder->answer().tokens, alone.recorder->answer().tokens);
}

TEST_F(EndsTest, ShutdownLetsAnswersFinishOrCutsThem) {
  for (const bool patient : {true, false}) {
    Scheduler scheduler(model(), tokenizer(), {});
    const Sent sent = send(scheduler, request(text(30, 1), patient ? 50 : 4000));
    const Sent another = send(scheduler, request(text(2000, 1), patient ? 1 : 4000));
    sent.recorder->wait_for_text();
    scheduler.shutdown(patient ? std::chrono::milliseconds(60000) : std::chrono::milliseconds(5));
    for (const Sent& each : {sent, another}) {
      ASSERT_TRUE(each.recorder->is_closed());
      EXPECT_EQ(each.recorder->answer().result.has_value(), patient);
      if (!patient) {
        EXPECT_THAT(each.recorder->answer().error->what(), ::testing::HasSubstr("shutting down"));
      }
    }
    EXPECT_THROW((void)scheduler.submit(request(text(30, 1), 5)), Error);
    scheduler.shutdown(std::chrono::seconds(1));
  }
}

TEST_F(EndsTest, ShutdownMayBeCalledByTwo) {
  Scheduler scheduler(model(), tokenizer(), {});
  const Sent sent = send(scheduler, request(text(30, 1), 100));
  std::thread other([&] { scheduler.shutdown(std::chrono::seconds(20)); });
  scheduler.shutdown(std::chrono::seconds(20));
  other.join();
  EXPECT_TRUE(sent.recorder->answer().result);
}

}  // namespace
}  // namespace restkv::server::testing
