#include "base/threads.h"

#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "restkv/error.h"
#include "support/sanitizers.h"

namespace restkv {
namespace {

class ThreadsTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    before_ = num_threads();
    set_num_threads(GetParam());
  }
  void TearDown() override { set_num_threads(before_); }

 private:
  int before_ = 1;
};

TEST_P(ThreadsTest, RunsEachTaskOnce) {
  ASSERT_EQ(num_threads(), GetParam());
  for (const size_t tasks : {0, 1, 2, 3, 1000}) {
    for (int repeat = 0; repeat < 100; ++repeat) {
      std::vector<std::atomic<int>> runs(tasks);
      const auto count = [&](size_t task, size_t) { ++runs[task]; };
      parallel_for(tasks, count, repeat % 2 == 0 ? Sharing::kInOrder : Sharing::kRuns);
      for (size_t i = 0; i < tasks; ++i) ASSERT_EQ(runs[i], 1) << "task " << i << " of " << tasks;
    }
  }
}

TEST_P(ThreadsTest, RunsBelongToThreads) {
  const auto threads = static_cast<size_t>(GetParam());
  std::vector<size_t> ran_on(threads);
  std::atomic<size_t> begun{0};
  const auto wait_for_the_others = [&](size_t task, size_t thread) {
    ran_on[task] = thread;
    if (threads == 1) return;
    ++begun;
    while (begun < threads) std::this_thread::yield();
  };
  parallel_for(threads, wait_for_the_others, Sharing::kRuns);
  for (size_t i = 0; i < threads; ++i) EXPECT_EQ(ran_on[i], i);
}

TEST_P(ThreadsTest, ThreadsHelpWithTheRunsOfOthers) {
  // The first task of the caller's run lasts until all others are done.
  const auto threads = static_cast<size_t>(GetParam());
  const size_t tasks = 10 * threads;
  std::atomic<size_t> done{0};
  const auto hold_the_first = [&](size_t task, size_t) {
    while (task == 0 && threads > 1 && done + 1 < tasks) std::this_thread::yield();
    ++done;
  };
  parallel_for(tasks, hold_the_first, Sharing::kRuns);
  EXPECT_EQ(done, tasks);
}

TEST_P(ThreadsTest, TellsConcurrentTasksApart) {
  std::vector<std::atomic<int>> busy(static_cast<size_t>(GetParam()));
  std::atomic<bool> shared{false};
  parallel_for(200, [&](size_t, size_t thread) {
    if (thread >= busy.size() || ++busy[thread] > 1) {
      shared = true;
      return;
    }
    std::this_thread::sleep_for(std::chrono::microseconds(20));
    --busy[thread];
  });
  EXPECT_FALSE(shared);
}

TEST_P(ThreadsTest, WritesAreSeenByTheCaller) {
  std::vector<size_t> squares(10000);
  for (int repeat = 0; repeat < 20; ++repeat) {
    std::fill(squares.begin(), squares.end(), 0);
    parallel_for(squares.size(), [&](size_t i, size_t) { squares[i] = i * i; });
    for (size_t i = 0; i < squares.size(); ++i) ASSERT_EQ(squares[i], i * i);
  }
}

TEST_P(ThreadsTest, RethrowsTheExceptionOfATask) {
  for (int repeat = 0; repeat < 50; ++repeat) {
    try {
      parallel_for(1000, [&](size_t task, size_t) {
        if (task == 3) throw std::runtime_error("task 3");
      });
      FAIL() << "no exception";
    } catch (const std::runtime_error& e) {
      EXPECT_EQ(std::string(e.what()), "task 3");
    }
  }
  // The next call starts afresh.
  std::atomic<int> runs{0};
  parallel_for(100, [&](size_t, size_t) { ++runs; });
  EXPECT_EQ(runs, 100);
}

TEST_P(ThreadsTest, OneOfManyExceptionsArrives) {
  EXPECT_THROW(parallel_for(1000, [](size_t task, size_t) { throw task; }), size_t);
}

TEST_P(ThreadsTest, CallsMayBeNested) {
  std::vector<std::atomic<int>> runs(20 * 30);
  parallel_for(20, [&](size_t outer, size_t) {
    parallel_for(30, [&](size_t inner, size_t thread) {
      EXPECT_EQ(thread, 0U);
      ++runs[outer * 30 + inner];
    });
  });
  for (size_t i = 0; i < runs.size(); ++i) EXPECT_EQ(runs[i], 1) << i;
  // An exception passes through both.
  EXPECT_THROW(parallel_for(4,
                            [](size_t, size_t) {
                              parallel_for(4, [](size_t inner, size_t) {
                                if (inner == 2) throw std::runtime_error("inner");
                              });
                            }),
               std::runtime_error);
}

TEST_P(ThreadsTest, SeveralThreadsMayCallAtOnce) {
  constexpr size_t kCallers = 4;
  std::vector<std::vector<int>> runs(kCallers, std::vector<int>(500));
  std::vector<std::thread> callers;
  for (size_t c = 0; c < kCallers; ++c) {
    callers.emplace_back([&runs, c] {
      for (int repeat = 0; repeat < 20; ++repeat) {
        parallel_for(runs[c].size(), [&](size_t task, size_t) { ++runs[c][task]; });
      }
    });
  }
  for (auto& caller : callers) caller.join();
  for (const auto& counts : runs) EXPECT_EQ(counts, std::vector<int>(500, 20));
}

TEST_P(ThreadsTest, CallersThatComputeAtOnceAllHaveHelpers) {
  // Each task of a caller waits for all of its others: nobody who was left alone would get on.
  const auto threads = static_cast<size_t>(GetParam());
  std::vector<std::thread> callers;
  std::atomic<size_t> finished{0};
  for (size_t c = 0; c < 3; ++c) {
    callers.emplace_back([&] {
      std::atomic<size_t> begun{0};
      parallel_for(threads, [&](size_t, size_t) {
        ++begun;
        while (begun < threads) std::this_thread::yield();
      });
      ++finished;
      while (finished < 3) std::this_thread::yield();
    });
  }
  for (auto& caller : callers) caller.join();
  EXPECT_EQ(finished, 3U);
}

INSTANTIATE_TEST_SUITE_P(Counts, ThreadsTest, ::testing::Values(1, 2, 3, 8),
                         ::testing::PrintToStringParamName());

/// In a process of its own: some threads can be started, all cannot. 0: as it should be.
int run_with_little_memory() {
  size_t pages = 0;
  std::ifstream("/proc/self/statm") >> pages;
  const rlimit limit{pages * 4096 + (size_t{40} << 20U), RLIM_INFINITY};  // stacks have 8 MiB
  if (setrlimit(RLIMIT_AS, &limit) != 0) return 2;
  set_num_threads(64);
  std::string message;
  try {
    parallel_for(100, [](size_t, size_t) {});
  } catch (const Error& e) {
    message = e.what();
  }
  std::fputs(message.c_str(), stderr);
  set_num_threads(1);  // as the message says
  size_t done = 0;
  parallel_for(100, [&](size_t, size_t) { ++done; });
  return done == 100 ? 0 : 3;
}

TEST(Threads, ThatCannotBeStartedAreNamedWithARemedy) {
  if (testing::sanitized()) GTEST_SKIP() << "a sanitizer takes memory, too";
  EXPECT_EXIT(std::_Exit(run_with_little_memory()), ::testing::ExitedWithCode(0),
              "cannot start more than [0-9]+ of 64 threads: .*use fewer, or raise");
}

TEST(ThreadPools, AreUsedByTheThreadThatSaysSo) {
  const int before = num_threads();
  ThreadPool three(3);
  ThreadPool one(1);
  EXPECT_EQ(three.threads(), 3);
  {
    const UseThreads outer(three);
    EXPECT_EQ(num_threads(), 3);
    std::thread([&] { EXPECT_EQ(num_threads(), before); }).join();
    {
      const UseThreads inner(one);
      EXPECT_EQ(num_threads(), 1);
    }
    EXPECT_EQ(num_threads(), 3);
    size_t most = 0;
    std::atomic<size_t> begun{0};
    parallel_for(
        3,
        [&](size_t, size_t thread) {
          ++begun;
          while (begun < 3) std::this_thread::yield();
          if (thread == 2) most = thread;
        },
        Sharing::kRuns);
    EXPECT_EQ(most, 2U);
  }
  EXPECT_EQ(num_threads(), before);
}

TEST(ThreadPools, HaveOneThreadPerUsableProcessorUnlessTold) {
  EXPECT_EQ(ThreadPool().threads(), usable_processors());
  EXPECT_EQ(ThreadPool(5).threads(), 5);
  EXPECT_THROW(ThreadPool(-1), Error);
}

TEST(NumThreads, IsAtLeastOne) {
  const int before = num_threads();
  EXPECT_GE(before, 1);
  for (const int unusable : {0, -3}) {
    set_num_threads(unusable);
    EXPECT_EQ(num_threads(), 1);
  }
  set_num_threads(before);
}

}  // namespace
}  // namespace restkv
