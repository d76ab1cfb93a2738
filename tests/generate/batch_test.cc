#include "generate/batch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <deque>
#include <stdexcept>
#include <vector>

namespace restkv {
namespace {

using ::testing::ElementsAre;

constexpr size_t kVocabulary = 10;

/// Counts upwards from a number, reading from the logits where it stands.
class Counter : public TokenSource {
 public:
  Counter(int32_t first, size_t count) : next_(first), left_(count) {}

  std::optional<int32_t> next(std::span<const float> logits) override {
    seen.push_back(logits[0]);
    if (left_ == 0) return std::nullopt;
    --left_;
    return next_++;
  }

  std::vector<float> seen;

 private:
  int32_t next_;
  size_t left_;
};

/// Sequences whose first logit is the last token.
class BatchTest : public ::testing::Test {
 protected:
  [[nodiscard]] Matrix<const float> decode(std::span<const int32_t> tokens,
                                           std::span<const size_t> members) {
    if (fails) throw std::runtime_error("decoding fails");
    logits.assign(tokens.size() * kVocabulary, 0.0F);
    steps.emplace_back(members.begin(), members.end());
    for (size_t i = 0; i < tokens.size(); ++i) {
      logits[i * kVocabulary] = static_cast<float>(tokens[i]);
    }
    return {logits.data(), tokens.size(), kVocabulary};
  }

  bool fails = false;
  std::vector<float> logits;
  std::vector<float> prompt = std::vector<float>(kVocabulary, -1.0F);
  std::vector<std::vector<size_t>> steps;  ///< Members of each.
  std::vector<size_t> ended;
  std::vector<size_t> steps_of_ended;
  Batch batch{[this](auto tokens, auto members) { return decode(tokens, members); },
              [this](size_t member, const Batch::Cost& cost) {
                ended.push_back(member);
                steps_of_ended.push_back(cost.steps);
                EXPECT_GE(cost.seconds, 0);
              }};
};

TEST_F(BatchTest, MembersJoinAndEndByThemselves) {
  Counter short_one(100, 1);
  Counter long_one(200, 3);
  Counter late_one(300, 2);
  batch.join(7, short_one, prompt);
  batch.join(8, long_one, prompt);
  batch.step();  // ends 7
  batch.join(9, late_one, prompt);
  while (!batch.empty()) batch.step();
  EXPECT_THAT(steps, ElementsAre(ElementsAre(7, 8), ElementsAre(8, 9), ElementsAre(8, 9)));
  EXPECT_THAT(ended, ElementsAre(7, 8, 9));
  EXPECT_THAT(steps_of_ended, ElementsAre(1, 3, 2));
  // Everyone gets its own logits, whoever left before it.
  EXPECT_THAT(short_one.seen, ElementsAre(-1, 100));
  EXPECT_THAT(long_one.seen, ElementsAre(-1, 200, 201, 202));
  EXPECT_THAT(late_one.seen, ElementsAre(-1, 300, 301));
}

TEST_F(BatchTest, WhoHasNothingToSayEndsWithoutAStep) {
  Counter silent(0, 0);
  batch.join(3, silent, prompt);
  EXPECT_TRUE(batch.empty());
  EXPECT_THAT(ended, ElementsAre(3));
  EXPECT_THAT(steps_of_ended, ElementsAre(0));
  batch.step();
  EXPECT_TRUE(steps.empty());
}

TEST_F(BatchTest, WhoLeavesIsNotHeardOf) {
  std::deque<Counter> counters;
  for (size_t i = 0; i < 3; ++i) {
    batch.join(i, counters.emplace_back(static_cast<int32_t>(10 * i), 5), prompt);
  }
  batch.step();
  batch.leave(1);
  batch.leave(1);  // is gone already
  batch.step();
  EXPECT_THAT(steps.back(), ElementsAre(0, 2));
  EXPECT_THAT(counters[2].seen, ElementsAre(-1, 20, 21));
  EXPECT_TRUE(ended.empty());
}

TEST_F(BatchTest, MembersMayJoinWhereOneEnds) {
  Counter first(1, 1);
  Counter second(50, 2);
  Counter third(70, 2);
  Batch chain([this](auto tokens, auto members) { return decode(tokens, members); },
              [&](size_t member, const Batch::Cost&) {
                if (member == 0) chain.join(2, third, prompt);
              });
  chain.join(0, first, prompt);
  chain.join(1, second, prompt);
  while (!chain.empty()) chain.step();
  EXPECT_THAT(steps, ElementsAre(ElementsAre(0, 1), ElementsAre(1, 2), ElementsAre(2)));
  EXPECT_THAT(second.seen, ElementsAre(-1, 50, 51));
  EXPECT_THAT(third.seen, ElementsAre(-1, 70, 71));
}

TEST_F(BatchTest, AFailedStepLosesNobody) {
  Counter counter(5, 2);
  batch.join(0, counter, prompt);
  fails = true;
  EXPECT_THROW(batch.step(), std::runtime_error);
  fails = false;
  while (!batch.empty()) batch.step();
  EXPECT_THAT(counter.seen, ElementsAre(-1, 5, 6));
}

}  // namespace
}  // namespace restkv
