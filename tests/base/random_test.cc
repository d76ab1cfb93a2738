#include "base/random.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <set>

namespace restkv {
namespace {

TEST(Random, GivesTheSameNumbersOnEveryPlatform) {
  Random random(42);
  // The first outputs of the 64-bit Mersenne Twister for this seed, modulo 1000.
  EXPECT_EQ(random.bits(), 13930160852258120406U);
  EXPECT_EQ(random.below(1000), 11788048577503494824U % 1000);
}

TEST(Random, StreamsDifferByNameIndexAndSeed) {
  std::set<uint64_t> firsts;
  for (const uint64_t seed : {1, 2}) {
    for (const char* name : {"a", "b"}) {
      for (const uint64_t index : {0, 1, 256}) firsts.insert(Random(seed, name, index).bits());
    }
  }
  EXPECT_EQ(firsts.size(), 12U);
  EXPECT_EQ(Random(1, "a", 1).bits(), Random(1, "a", 1).bits());
}

TEST(Random, BetweenReachesBothEnds) {
  Random random(1);
  std::set<int64_t> seen;
  for (int i = 0; i < 200; ++i) seen.insert(random.between(-2, 3));
  EXPECT_THAT(seen, testing::ElementsAre(-2, -1, 0, 1, 2, 3));
}

TEST(Random, SampleDrawsDifferentNumbersEachEquallyOften) {
  Random random(3);
  std::array<int, 10> drawn{};
  constexpr int kRounds = 6000;
  for (int i = 0; i < kRounds; ++i) {
    const auto sample = random.sample(drawn.size(), 3);
    EXPECT_EQ(std::set(sample.begin(), sample.end()).size(), 3U);
    for (const size_t n : sample) ++drawn.at(n);
  }
  for (const int count : drawn) EXPECT_NEAR(count, kRounds * 3 / 10, 200);  // 5 deviations
  EXPECT_TRUE(random.sample(0, 0).empty());
}

TEST(Random, ShuffleKeepsEverything) {
  Random random(4);
  std::array<int, 100> numbers{};
  for (size_t i = 0; i < numbers.size(); ++i) numbers.at(i) = static_cast<int>(i);
  const auto before = numbers;
  random.shuffle(numbers);
  EXPECT_NE(numbers, before);
  EXPECT_THAT(numbers, testing::UnorderedElementsAreArray(before));
}

}  // namespace
}  // namespace restkv
