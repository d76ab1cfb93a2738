#include "eval/metrics/lcs.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <vector>

namespace restkv::eval {
namespace {

using Items = std::vector<uint32_t>;

/// The table and the walk as textbooks have them.
LcsColumns::Walk slow_walk(const Items& rows, const Items& columns) {
  std::vector<std::vector<size_t>> table(rows.size() + 1,
                                         std::vector<size_t>(columns.size() + 1, 0));
  for (size_t i = 1; i <= rows.size(); ++i) {
    for (size_t j = 1; j <= columns.size(); ++j) {
      table[i][j] = rows[i - 1] == columns[j - 1] ? table[i - 1][j - 1] + 1
                                                  : std::max(table[i - 1][j], table[i][j - 1]);
    }
  }
  LcsColumns::Walk walk;
  size_t i = rows.size();
  size_t j = columns.size();
  for (; i > 0 && j > 0; ++walk.steps) {
    if (rows[i - 1] == columns[j - 1]) {
      walk.rows.insert(walk.rows.begin(), --i);
      walk.columns.insert(walk.columns.begin(), --j);
    } else if (table[i - 1][j] > table[i][j - 1]) {
      --i;
    } else {
      --j;
    }
  }
  return walk;
}

Items random_items(std::mt19937_64& bits, size_t longest, size_t different) {
  Items items(bits() % (longest + 1));
  for (uint32_t& item : items) item = static_cast<uint32_t>(bits() % different);
  return items;
}

TEST(Lcs, WalksAsTheTableDoes) {
  std::mt19937_64 bits(1);
  for (int round = 0; round < 600; ++round) {
    const size_t longest = round % 3 == 0 ? 200 : 12;  // Several words of 64 columns, or one.
    const size_t different = 1 + bits() % 30;
    const Items rows = random_items(bits, longest, different);
    const Items columns = random_items(bits, longest, different);
    const LcsColumns lcs(columns);
    const auto walk = lcs.walk(rows);
    const auto expected = slow_walk(rows, columns);
    ASSERT_EQ(walk.rows, expected.rows);
    ASSERT_EQ(walk.columns, expected.columns);
    ASSERT_EQ(walk.steps, expected.steps);
    ASSERT_EQ(lcs.length(rows), expected.rows.size());
  }
}

TEST(Lcs, EmptySequences) {
  const Items some = {1, 2};
  EXPECT_EQ(LcsColumns(Items{}).length(some), 0u);
  EXPECT_EQ(LcsColumns(some).length(Items{}), 0u);
  EXPECT_EQ(LcsColumns(Items{}).walk(some).steps, 0u);
  EXPECT_EQ(LcsColumns(some).walk(Items{}).steps, 0u);
}

TEST(Lcs, TwentyThousandWords) {
  constexpr size_t kWords = 20000;
  Items columns(kWords);
  for (size_t j = 0; j < kWords; ++j) columns[j] = static_cast<uint32_t>(j % 997);
  Items rows;  // Every second word, and others between them.
  for (size_t j = 0; j < kWords; j += 2) {
    rows.push_back(columns[j]);
    rows.push_back(1000000);
  }
  const LcsColumns lcs(columns);
  EXPECT_EQ(lcs.length(rows), kWords / 2);
  const auto walk = lcs.walk(rows);
  ASSERT_EQ(walk.rows.size(), kWords / 2);
  for (size_t i = 0; i < walk.rows.size(); ++i) {
    ASSERT_EQ(rows[walk.rows[i]], columns[walk.columns[i]]);
  }
}

}  // namespace
}  // namespace restkv::eval
