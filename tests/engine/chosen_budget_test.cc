// Budgets that choose themselves, in prompts, turns, answers and files.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/streams.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/session.h"
#include "support/refusal.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

constexpr int kUnlimited = std::numeric_limits<int>::max();
constexpr size_t kLeast = 33;  // the window and one token

class ChosenBudgetTest : public ::testing::Test {
 protected:
  ChosenBudgetTest() {
    testing::TinyModel tiny;
    tiny.layers = 3;
    tiny.context = 2000;
    tiny.write(folder_.file("tiny.gguf"));
    model_.emplace(folder_.file("tiny.gguf"));
  }

  static SessionOptions options(const char* method, double tolerance, int most = kUnlimited) {
    SessionOptions options;
    options.compression = default_options(method);
    options.compression.budget = most;
    options.compression.tolerance = tolerance;
    options.kv_type = KvType::kF32;
    return options;
  }
  static std::vector<size_t> rows(const KvCache& cache) {
    std::vector<size_t> list;
    for (size_t layer = 0; layer < cache.layers(); ++layer) {
      for (const CachedHead& head : cache.heads(layer)) list.push_back(head.count);
    }
    return list;
  }
  static size_t sum(const KvCache& cache) {
    size_t all = 0;
    for (const size_t count : rows(cache)) all += count;
    return all;
  }
  static size_t longest(const KvCache& cache) { return std::ranges::max(rows(cache)); }

  testing::TemporaryFolder folder_;
  std::optional<Model> model_;
};

TEST_F(ChosenBudgetTest, EveryLayerOfAPromptChoosesItsOwn) {
  Engine engine(*model_);
  const std::vector<int32_t> prompt = tokens_of(600);
  std::vector<double> tolerances{0.05, 0.2, 0.4, 0.8};
  std::vector<CacheRequest> requests;
  for (const double tolerance : tolerances) {
    CacheRequest& request = requests.emplace_back();
    request.options = options("snapkv", tolerance).compression;
    request.keep_selections = true;
  }
  requests.emplace_back().options = options("snapkv", 0.05, 100).compression;
  (void)engine.prefill(prompt, requests);
  for (size_t i = 0; i + 1 < tolerances.size(); ++i) {
    for (size_t layer = 0; layer < 3; ++layer) {
      EXPECT_GE(requests[i].selections[layer].keep[0].size(),
                requests[i + 1].selections[layer].keep[0].size());
    }
  }
  EXPECT_LT(sum(requests[3].cache), sum(requests[0].cache));
  const std::vector<size_t> kept = rows(requests[2].cache);
  EXPECT_GT(std::set(kept.begin(), kept.end()).size(), 1U) << "all layers keep the same";
  for (const size_t count : kept) EXPECT_GE(count, kLeast);
  EXPECT_LE(longest(requests[4].cache), 100U);

  // A session keeps the same.
  Session session(engine, options("snapkv", 0.4));
  session.append(prompt);
  EXPECT_EQ(rows(session.cache()), kept);
  Session shorter(engine, options("snapkv", 0.4));
  shorter.append(tokens_of(kLeast));
  EXPECT_EQ(longest(shorter.cache()), kLeast) << "it is kept whole";
}

TEST_F(ChosenBudgetTest, NeverFallsInLaterTurnsAndAnswers) {
  for (const char* allocation : {"uniform", "ada"}) {
    SessionOptions given = options("snapkv", 0.5);
    given.compression.allocation = allocation;
    given.interval = 16;
    Session session(*model_, given);
    size_t before = 0;
    for (size_t turn = 0; turn < 4; ++turn) {
      session.append(tokens_of(150 + 40 * turn, turn + 2));
      // Heads share what their layer keeps, so that the layer's rounding is all that may be lost.
      EXPECT_GE(sum(session.cache()) + rows(session.cache()).size(), before) << turn;
      before = sum(session.cache());
      const size_t after_prompt = longest(session.cache());
      for (int32_t i = 0; i < 100; ++i) session.append(i % 256);
      EXPECT_LT(longest(session.cache()), after_prompt + 100) << "nothing was cut";
      session.compress();
      EXPECT_GE(sum(session.cache()) + rows(session.cache()).size(), before) << turn;
      before = sum(session.cache());
      const size_t left = sum(session.cache());
      session.compress();
      EXPECT_EQ(sum(session.cache()), left) << "there is nothing new to choose for";
    }
  }
}

TEST_F(ChosenBudgetTest, StaysBelowItsLimitWhileTokensAreDecoded) {
  SessionOptions given = options("restkv", 0.01, 120);
  given.interval = 16;
  Session session(*model_, given);
  session.append(tokens_of(500));
  EXPECT_LE(longest(session.cache()), 120U);
  for (int32_t i = 0; i < 100; ++i) {
    session.append(i % 256);
    ASSERT_LE(longest(session.cache()), 120U + 16);
  }
  session.set_budget(60);
  session.compress();
  EXPECT_LE(longest(session.cache()), 60U);
}

TEST_F(ChosenBudgetTest, GoesOnFromAFileInTheMiddleOfAnAnswer) {
  for (const size_t interval : {0, 16}) {
    SessionOptions given = options("restkv", 0.5);
    given.interval = interval;
    Session session(*model_, given);
    session.append(tokens_of(300));
    for (int32_t i = 0; i < 23; ++i) session.append(i % 256);
    session.save(folder_.file("s.rkv"));
    Session loaded = Session::load(*model_, folder_.file("s.rkv"));
    EXPECT_EQ(budget_of(loaded.options().compression).text(), "auto:0.5");
    Session forked = session.fork();
    for (Session* each : {&session, &loaded, &forked}) {
      for (int32_t i = 0; i < 30; ++i) each->append(i % 256);
      each->append(tokens_of(80, 5));
    }
    EXPECT_EQ(rows(loaded.cache()), rows(session.cache()));
    EXPECT_EQ(rows(forked.cache()), rows(session.cache()));
    EXPECT_TRUE(std::ranges::equal(loaded.logits(), session.logits()));
    EXPECT_TRUE(std::ranges::equal(forked.logits(), session.logits()));
  }
}

TEST_F(ChosenBudgetTest, WorksInChunksAndLeavesWhatIsReserved) {
  SessionOptions given = options("snapkv", 0.5);
  given.chunk = 128;
  Session session(*model_, given);
  session.append(tokens_of(700));
  EXPECT_LT(sum(session.cache()), 700 * rows(session.cache()).size());
  const std::vector<size_t> kept = rows(session.cache());
  session.reserve(60 + 20);
  session.append(tokens_of(60, 3));
  for (int32_t i = 0; i < 20; ++i) session.append(i);
  std::vector<size_t> expected = kept;
  for (size_t& count : expected) count += 80;
  EXPECT_EQ(rows(session.cache()), expected);
}

TEST_F(ChosenBudgetTest, RefusesCompactPositions) {
  SessionOptions given = options("snapkv", 0.5);
  given.compact_positions = true;
  EXPECT_NE(testing::refusal(ErrorCode::kInvalidArgument, [&] { Session(*model_, given); })
                .find("let no layer choose its budget (tolerance 0)"),
            std::string::npos);
}

}  // namespace
}  // namespace restkv
