#include "compress/chunk_attention.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "restkv/threads.h"
#include "support/simd.h"

namespace restkv {
namespace {

/// Queries and keys as an engine has them: one row of [queries | keys] per token.
struct Block {
  Block(size_t query_heads, size_t kv_heads, size_t length, size_t head_dim)
      : heads(query_heads),
        groups(kv_heads),
        rows(length),
        dim(head_dim),
        storage(rows * (heads + groups) * dim) {
    std::mt19937 rng(static_cast<uint32_t>(rows * 1000 + dim));
    std::normal_distribution<float> normal;
    std::ranges::generate(storage, [&] { return 0.7F * normal(rng); });
  }
  [[nodiscard]] Heads<const float> part(size_t before, size_t count) const {
    return {storage.data() + before * dim, count, rows, dim, dim, (heads + groups) * dim};
  }
  [[nodiscard]] Heads<const float> queries() const { return part(0, heads); }
  [[nodiscard]] Heads<const float> keys() const { return part(heads, groups); }

  size_t heads, groups, rows, dim;
  std::vector<float> storage;
};

/// The slow way in float64, with the tokens of zeros that fill the last chunk up.
std::vector<double> reference(const Block& b, const ChunkAttention& options) {
  std::vector<double> sums(b.heads * b.rows);
  for (size_t h = 0; h < b.heads; ++h) {
    for (size_t begin = 0; begin < b.rows; begin += options.length) {
      const size_t end = std::min(b.rows, begin + options.length);
      for (size_t i = begin; i < begin + options.length; ++i) {
        if (i >= end) {  // looks at all alike
          for (size_t j = begin; j < end; ++j) {
            sums[h * b.rows + j] += 1 / static_cast<double>(options.length);
          }
          continue;
        }
        std::vector<double> weights;
        double total = static_cast<double>(begin + options.length - end);
        if (!options.sink_logits.empty()) total += std::exp(double{options.sink_logits[h]});
        for (size_t j = begin; j < end; ++j) {
          double z = 0;
          for (size_t c = 0; c < b.dim; ++c) {
            z += double{b.queries().row(h, i)[c]} * b.keys().row(h * b.groups / b.heads, j)[c];
          }
          if (options.softcap > 0) z = options.softcap * std::tanh(z / options.softcap);
          weights.push_back(std::exp(z));
          total += weights.back();
        }
        for (size_t j = begin; j < end; ++j) sums[h * b.rows + j] += weights[j - begin] / total;
      }
    }
  }
  return sums;
}

std::vector<float> computed(const Block& b, const ChunkAttention& options) {
  std::vector<float> sums(b.heads * b.rows);
  EXPECT_TRUE(chunk_attention_sums(b.queries(), b.keys(), options, {sums.data(), b.heads, b.rows}));
  return sums;
}

void check(const Block& b, const ChunkAttention& options) {
  const std::vector<double> expected = reference(b, options);
  for (const int64_t target : testing::simd_targets()) {
    const testing::ForcedSimdTarget forced(target);
    SCOPED_TRACE(testing::simd_target_name(target) + ", " + std::to_string(b.rows) +
                 " rows, chunks of " + std::to_string(options.length));
    const std::vector<float> actual = computed(b, options);
    for (size_t x = 0; x < actual.size(); ++x) {
      ASSERT_NEAR(actual[x], expected[x], 3e-5 * expected[x] + 1e-6) << x;
    }
  }
}

TEST(ChunkAttention, IsTheSumOfTheMatrixOfEveryChunk) {
  for (const size_t length : {1, 5, 64, 100, 128, 300}) check({4, 2, 300, 32}, {.length = length});
  for (const size_t rows : {1, 6, 63, 65, 130}) check({3, 1, rows, 33}, {.length = 64});
}

TEST(ChunkAttention, AShortChunkIsFilledUpWithZeros) {
  check({2, 1, 70, 32}, {.length = 256});
  check({2, 2, 1, 16}, {.length = 1000000});
}

TEST(ChunkAttention, CapsLogitsAndLeavesOutWhatSinksGet) {
  const std::vector<float> sinks{2, -1, 5, 40};
  check({4, 2, 90, 32}, {.length = 64, .softcap = 2.0F});
  check({4, 2, 90, 32}, {.length = 64, .sink_logits = sinks});
  check({4, 2, 90, 32}, {.length = 64, .softcap = 3.0F, .sink_logits = sinks});
}

TEST(ChunkAttention, DoesNotDependOnTheThreads) {
  const Block block(6, 3, 300, 32);
  const int before = num_threads();
  set_num_threads(1);
  const std::vector<float> one = computed(block, {.length = 128});
  set_num_threads(3);
  EXPECT_EQ(computed(block, {.length = 128}), one);
  set_num_threads(before);
}

TEST(ChunkAttention, SaysWhatIsNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const size_t place : {0, 5}) {  // a query, a key
      Block block(4, 2, 70, 32);
      block.storage[(40 * 6 + place) * 32 + 3] = bad;
      std::vector<float> sums(4 * 70);
      EXPECT_FALSE(chunk_attention_sums(block.queries(), block.keys(), {.length = 64},
                                        {sums.data(), 4, 70}));
    }
  }
}

}  // namespace
}  // namespace restkv
