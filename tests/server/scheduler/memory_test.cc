// What is promised never passes the limit, and nothing is lost.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#if defined(__GLIBC__)
#include <malloc.h>
#endif

#include "server/scheduler/footprint.h"
#include "server/scheduler/scheduler_test.h"
#include "support/sanitizers.h"

namespace restkv::server::testing {
namespace {

class MemoryTest : public SchedulerTest {
 protected:
  /// Of a request with a fresh cache.
  static size_t need(const Request& asked, const SessionOptions& options) {
    return footprint(model(), options,
                     {.prompt = asked.prompt.size(), .written = asked.generation.max_tokens})
        .total(asked.n);
  }
};

TEST_F(MemoryTest, RequestsWaitUntilTheyFit) {
  const Request asked = request(text(300, 1), 60);
  const size_t each = need(asked, SessionOptions());
  SchedulerOptions options;
  options.memory_limit = engine_footprint(model()) + each * 5 / 2;
  options.max_prompts = 8;
  Scheduler scheduler(model(), tokenizer(), options);
  std::vector<Sent> sent;
  for (size_t i = 0; i < 12; ++i) {
    Request one = asked;
    one.prompt = text(300, i);
    sent.push_back(send(scheduler, one));
  }
  size_t most_used = 0;
  size_t most_busy = 0;
  while (!std::ranges::all_of(sent, [](const Sent& s) { return s.recorder->is_closed(); })) {
    const SchedulerStatus status = scheduler.status();
    most_used = std::max(most_used, status.memory_used);
    most_busy = std::max(most_busy, status.reading + status.writing);
    EXPECT_LE(status.memory_used, status.memory_limit);
    size_t caches = engine_footprint(model());
    for (const SlotInfo& slot : status.slots) caches += slot.kv_bytes;
    EXPECT_LE(caches, status.memory_used);
  }
  EXPECT_GT(most_used, engine_footprint(model()));
  EXPECT_GE(most_busy, 1U);
  EXPECT_LT(most_busy, sent.size());
  for (const Sent& each_sent : sent) EXPECT_TRUE(each_sent.recorder->answer().result);
  scheduler.shutdown(std::chrono::seconds(1));
  EXPECT_GT(scheduler.status().evictions, 0U);
}

TEST_F(MemoryTest, WhatNeverFitsIsRefusedWithBothFigures) {
  Request asked = request(text(3000, 1), 1000);
  SchedulerOptions options;
  options.memory_limit = engine_footprint(model()) + need(asked, SessionOptions()) - 1;
  Scheduler scheduler(model(), tokenizer(), options);
  try {
    asked.session = session("full", 0);
    (void)scheduler.submit(asked);
    ADD_FAILURE() << "it was accepted";
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), ErrorCode::kInvalidArgument);
    EXPECT_THAT(error.what(), ::testing::ContainsRegex("need up to .*iB.* limit is .*iB"));
  }
  asked.session = session("snapkv", 100);
  const Sent sent = send(scheduler, asked);
  sent.recorder->wait();
  EXPECT_TRUE(sent.recorder->answer().result);
}

TEST_F(MemoryTest, DocumentsThatTakeAllOfItAreNamed) {
  SessionOptions full = session("full", 0);
  const Request asked = request(text(1000, 1), 10);
  SchedulerOptions options;
  options.session = full;
  options.memory_limit = engine_footprint(model()) + need(asked, full) + 100000;
  Scheduler scheduler(model(), tokenizer(), options);
  const DocumentId id = scheduler.add_document(text(1000, 3));
  const Sent hopeless = send(scheduler, asked);
  hopeless.recorder->wait();
  ASSERT_TRUE(hopeless.recorder->answer().error);
  EXPECT_THAT(hopeless.recorder->answer().error->what(), ::testing::HasSubstr("documents"));
  EXPECT_TRUE(scheduler.remove_document(id));
  const Sent sent = send(scheduler, asked);
  sent.recorder->wait();
  EXPECT_TRUE(sent.recorder->answer().result);
}

TEST_F(MemoryTest, AKeptSequenceIsTakenOverWhereACopyDoesNotFit) {
  SessionOptions full = session("full", 0);
  Request asked = request(text(2000, 1), 0);
  SchedulerOptions options;
  options.session = full;
  options.memory_limit = engine_footprint(model()) + need(asked, full) * 5 / 4;
  Scheduler scheduler(model(), tokenizer(), options);
  const Sent first = send(scheduler, asked);
  first.recorder->wait();
  asked.prompt.push_back(77);
  asked.generation.max_tokens = 10;
  const Sent second = send(scheduler, asked);
  second.recorder->wait();
  ASSERT_TRUE(second.recorder->answer().result) << second.recorder->answer().error->what();
  EXPECT_EQ(second.recorder->answer().usage->cached_tokens, 2000U);
}

TEST_F(MemoryTest, APartOfAKeptSequenceIsCopiedAndTheRestGoesWhereBothDoNotFit) {
  const SessionOptions full = session("full", 0);
  const Request asked = request(text(2000, 1), 0);
  SchedulerOptions options;
  options.session = full;
  Request longer = asked;
  longer.generation.max_tokens = 10;
  options.memory_limit = engine_footprint(model()) + need(longer, full);
  Scheduler scheduler(model(), tokenizer(), options);
  const Sent first = send(scheduler, asked);
  first.recorder->wait();
  longer.prompt[1500] = longer.prompt[1500] == 77 ? 78 : 77;
  const Sent second = send(scheduler, longer);
  second.recorder->wait();
  ASSERT_TRUE(second.recorder->answer().result) << second.recorder->answer().error->what();
  EXPECT_EQ(second.recorder->answer().usage->cached_tokens, 1500U);
  scheduler.shutdown(std::chrono::seconds(1));
  EXPECT_EQ(scheduler.status().slots.size(), 1U);
}

#ifdef __GLIBC__
TEST_F(MemoryTest, ManyShortRequestsLeaveItFlat) {
  const size_t requests = restkv::testing::sanitized() ? 300 : 10000;
  SchedulerOptions options;
  options.max_queue = 100000;
  options.max_kept = 8;
  Scheduler scheduler(model(), tokenizer(), options);
  const auto allocated = [] {
    const auto now = mallinfo2();
    return now.uordblks + now.hblkhd;
  };
  size_t before = 0;
  std::vector<Sent> sent;
  for (size_t i = 0; i < requests; ++i) {
    Request asked = request(text(10 + i % 40, i), 1 + i % 6);
    asked.session = session("snapkv", 36);
    asked.n = 1 + i % 3;
    sent.push_back(send(scheduler, asked));
    if (i % 50 == 17) scheduler.cancel(sent.back().id);
    if (sent.size() == 100 || i + 1 == requests) {
      for (const Sent& each : sent) each.recorder->wait();
      sent.clear();
      if (before == 0) before = allocated();
    }
  }
  EXPECT_EQ(scheduler.status().waiting, 0U);
  if (restkv::testing::sanitized()) GTEST_SKIP() << "a sanitizer takes memory, too";
  EXPECT_LT(allocated(), before + 1000000);
}
#endif

}  // namespace
}  // namespace restkv::server::testing
