// Whose turn it is.
#include <gtest/gtest.h>

#include "server/scheduler/prompt_order.h"
#include "server/scheduler/scheduler_test.h"
#include "server/scheduler/time_share.h"

namespace restkv::server::testing {
namespace {

using OrderTest = SchedulerTest;

TEST(TimeShareTest, GivesBothTheirParts) {
  for (const double wanted : {0.1, 0.5, 0.75, 0.9}) {
    TimeShare share(wanted);
    double prompts = 0;
    double answers = 0;
    size_t longest_wait = 0;
    size_t wait = 0;
    for (size_t i = 0; i < 10000; ++i) {
      const double seconds = 0.01 + 0.001 * static_cast<double>(i % 7);
      if (share.prompt_is_next()) {
        share.prompt_took(seconds);
        prompts += seconds;
        longest_wait = std::max(longest_wait, ++wait);
      } else {
        share.answers_took(3 * seconds);
        answers += 3 * seconds;
        wait = 0;
      }
    }
    EXPECT_NEAR(prompts / (prompts + answers), wanted, 0.01);
    EXPECT_LE(static_cast<double>(longest_wait), 2 + 6 * wanted / (1 - wanted));
  }
}

TEST(TimeShareTest, ForgetsWhatOneHadAlone) {
  TimeShare share(0.5);
  for (size_t i = 0; i < 100; ++i) share.prompt_took(1);
  share.answers_took(1);
  share.answers_took(1);
  EXPECT_FALSE(share.prompt_is_next()) << "half of the next step would be too much";
  share.answers_took(1);
  EXPECT_TRUE(share.prompt_is_next()) << "no debt is larger than a step";
  for (size_t i = 0; i < 100; ++i) share.answers_took(1);
  share.forget();
  share.prompt_took(0.1);
  EXPECT_FALSE(share.prompt_is_next());
}

TEST(PromptOrderTest, ShortOnesOvertakeButNotForEver) {
  const double per_token = 0.001;
  const double long_one = prompt_order(0, 100000, per_token);  // takes 100 s
  EXPECT_LT(prompt_order(50, 1000, per_token), long_one);
  EXPECT_GT(prompt_order(100, 1, per_token), long_one) << "it has waited long enough";
}

TEST_F(OrderTest, AShortPromptOvertakesALongOne) {
  Scheduler scheduler(model(), tokenizer(), {});
  const Sent long_one = send(scheduler, request(text(4000, 1), 2));
  auto short_recorder = std::make_shared<Recorder>();
  bool long_was_over = true;
  short_recorder->on_closed = [&] { long_was_over = long_one.recorder->is_closed(); };
  Request asked = request(text(20, 2), 2);
  asked.listener = short_recorder;
  (void)scheduler.submit(asked);
  short_recorder->wait();
  long_one.recorder->wait();
  EXPECT_FALSE(long_was_over);
}

TEST_F(OrderTest, ALongPromptEndsAmongShortOnes) {
  SchedulerOptions options;
  options.max_queue = 1000;
  Scheduler scheduler(model(), tokenizer(), options);
  const Sent long_one = send(scheduler, request(text(3000, 1), 2));
  // There is always a short one waiting: each that ends sends the next.
  std::function<void()> send_next;
  std::atomic<bool> stop = false;
  std::atomic<size_t> ended = 0;
  send_next = [&] {
    if (stop) return;
    Request asked = request(text(100, ended + 5), 1);
    asked.reuse = false;
    auto recorder = std::make_shared<Recorder>();
    recorder->on_closed = [&] {
      ++ended;
      send_next();
    };
    asked.listener = recorder;
    (void)scheduler.submit(asked);
  };
  send_next();
  send_next();
  send_next();
  long_one.recorder->wait();
  stop = true;
  scheduler.shutdown(std::chrono::seconds(10));
  EXPECT_TRUE(long_one.recorder->answer().result);
  EXPECT_GT(ended, 1U);
}

TEST_F(OrderTest, ALongPromptDoesNotStopAnswers) {
  Scheduler scheduler(model(), tokenizer(), {});
  const Sent writing = send(scheduler, request(text(30, 1), 4000));
  writing.recorder->wait_for_text();
  const auto tokens = [&] { return scheduler.status().decode_rows; };
  auto reader = std::make_shared<Recorder>();
  size_t before = 0;
  reader->on_started = [&] { before = tokens(); };
  Request asked = request(text(4000, 2), 1);
  asked.listener = reader;
  (void)scheduler.submit(asked);
  reader->wait();
  EXPECT_GE(tokens(), before + 2) << "tokens between the steps of a prompt";
  scheduler.cancel(writing.id);
  writing.recorder->wait();
}

}  // namespace
}  // namespace restkv::server::testing
