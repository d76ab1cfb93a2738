#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "attention/reference.h"
#include "base/threads.h"
#include "restkv/attention.h"
#include "restkv/error.h"
#include "restkv/kv_cache.h"
#include "support/simd.h"

namespace restkv {
namespace {

using testing::Expected;

constexpr std::array kTypes = {KvType::kF16, KvType::kF32, KvType::kQ8, KvType::kQ4};

/// A ragged cache of random rows and the queries of one token.
struct Token {
  Token(const std::vector<size_t>& counts, size_t group, size_t dim, size_t value_dim,
        float query_factor = 1, float row_factor = 1, KvType type = KvType::kF16,
        float bias_factor = 0)
      : group_(group),
        dim_(dim),
        value_dim_(value_dim),
        cache_(1, counts.size(), dim, value_dim, type) {
    std::mt19937 rng(static_cast<uint32_t>(dim * 100 + group));
    std::normal_distribution<float> normal;
    const size_t most = *std::max_element(counts.begin(), counts.end());
    std::vector<float> keys(counts.size() * most * dim), values(counts.size() * most * value_dim);
    for (float& x : keys) x = row_factor * normal(rng);
    for (float& x : values) x = row_factor * normal(rng);
    Selection all;
    for (const size_t count : counts) {
      all.keep.emplace_back(count);
      std::iota(all.keep.back().begin(), all.keep.back().end(), 0);
    }
    std::vector<float> biases(bias_factor > 0 ? counts.size() * most : 0);
    for (float& x : biases) x = bias_factor * normal(rng);
    cache_.gather(0, {keys.data(), counts.size(), most, dim},
                  {values.data(), counts.size(), most, value_dim}, all, {}, false,
                  bias_factor > 0 ? Matrix<const float>(biases.data(), counts.size(), most)
                                  : Matrix<const float>());
    queries_.resize(counts.size() * group * dim);
    for (auto& q : queries_) q = normal(rng) * query_factor;
  }

  [[nodiscard]] size_t rows() const { return cache_.heads(0).size() * group_; }
  [[nodiscard]] KvCache& cache() { return cache_; }

  /// The rows of `out` have room between them, which must stay untouched.
  [[nodiscard]] std::vector<float> run(const AttentionOptions& options) const {
    const size_t stride = value_dim_ + 5;
    std::vector<float> out(rows() * stride, -12345.0F);
    decode_attention({queries_.data(), rows(), dim_}, cache_.heads(0), options,
                     {out.data(), rows(), value_dim_, stride});
    std::vector<float> packed;
    for (size_t r = 0; r < rows(); ++r) {
      packed.insert(packed.end(), &out[r * stride], &out[r * stride] + value_dim_);
      for (size_t c = value_dim_; c < stride; ++c) EXPECT_EQ(out[r * stride + c], -12345.0F);
    }
    return packed;
  }

  /// Query `r`'s weights for the rows of its cache head. `rows_apart` floats lie between two
  /// queries' weights; what is beyond a head's rows must stay untouched.
  [[nodiscard]] std::vector<std::vector<float>> weights(const AttentionOptions& options,
                                                        size_t rows_apart) const {
    std::vector<float> out(rows() * value_dim_);
    std::vector<float> weights(rows() * rows_apart, -12345.0F);
    decode_attention({queries_.data(), rows(), dim_}, cache_.heads(0), options,
                     {out.data(), rows(), value_dim_}, {weights.data(), rows(), rows_apart});
    std::vector<std::vector<float>> result;
    for (size_t r = 0; r < rows(); ++r) {
      const float* row = &weights[r * rows_apart];
      const size_t count = cache_.heads(0)[r / group_].count;
      result.emplace_back(row, row + count);
      for (size_t i = count; i < rows_apart; ++i) EXPECT_EQ(row[i], -12345.0F);
    }
    return result;
  }

  /// Those weights in float64: attention over values that are the rows of an identity matrix.
  [[nodiscard]] Expected expect_weights(AttentionOptions options, size_t r) const {
    const size_t h = r / group_;
    options.bias = bias(h);
    if (!options.sink_logits.empty()) options.sink_logits = options.sink_logits.subspan(r, 1);
    const size_t count = cache_.heads(0)[h].count;
    std::vector<float> keys(count * dim_), values(count * value_dim_), identity(count * count);
    cache_.read(0, h, {keys.data(), count, dim_}, {values.data(), count, value_dim_});
    for (size_t i = 0; i < count; ++i) identity[i * (count + 1)] = 1;
    Expected expected;
    testing::expect_attention(queries_.data() + r * dim_, {keys.data(), count, dim_},
                              {identity.data(), count, count}, options, expected);
    return expected;
  }

  /// In float64, on what the cache holds.
  [[nodiscard]] Expected expect(AttentionOptions options) const {
    Expected expected;
    for (size_t h = 0; h < cache_.heads(0).size(); ++h) {
      options.bias = bias(h);
      const size_t count = cache_.heads(0)[h].count;
      std::vector<float> keys(count * dim_), values(count * value_dim_);
      const Matrix<float> key_rows(keys.data(), count, dim_);
      const Matrix<float> value_rows(values.data(), count, value_dim_);
      cache_.read(0, h, key_rows, value_rows);
      for (size_t g = 0; g < group_; ++g) {
        AttentionOptions of_head = options;
        if (!options.sink_logits.empty()) {
          of_head.sink_logits = options.sink_logits.subspan(h * group_ + g, 1);
        }
        expect_attention(queries_.data() + (h * group_ + g) * dim_, key_rows, value_rows, of_head,
                         expected);
      }
    }
    return expected;
  }

 private:
  [[nodiscard]] Matrix<const float> bias(size_t h) const {
    const std::span<const float> biases = cache_.bias(0, h);
    return biases.empty() ? Matrix<const float>() : Matrix(biases.data(), 1, biases.size());
  }

  size_t group_, dim_, value_dim_;
  KvCache cache_;
  std::vector<float> queries_;
};

/// Compares with float64 on every instruction set. `slack` multiplies the tolerance.
void compare(const Token& token, const AttentionOptions& options, const std::string& what,
             double slack) {
  const Expected expected = token.expect(options);
  for (const int64_t target : testing::simd_targets()) {
    const testing::ForcedSimdTarget forced(target);
    const std::vector<float> actual = token.run(options);
    for (size_t r = 0; r < token.rows(); ++r) {
      EXPECT_LE(testing::worst_error(expected, r, actual.data() + r * expected.cols), slack)
          << testing::simd_target_name(target) << ", " << what << ": query head " << r
          << " is wrong by that many tolerances";
    }
  }
}

struct Shape {
  std::vector<size_t> counts;
  size_t group, dim, value_dim;
  float query_factor = 1, row_factor = 1;
};

/// All storage types. The tolerance is that of summing q * k; with quantised rows the sums are of
/// q * step * code and of q * minimum, which are larger than their total: a few times the error.
void check(const Shape& s, const AttentionOptions& options, const std::string& what) {
  for (const KvType type : kTypes) {
    const Token token(s.counts, s.group, s.dim, s.value_dim, s.query_factor, s.row_factor, type);
    const bool quantized = type == KvType::kQ8 || type == KvType::kQ4;
    compare(token, options, std::string(kv_type_name(type)) + ", " + what, quantized ? 4.0 : 1.0);
  }
}

const std::vector<size_t> kRagged = {0, 1, 31, 32, 33, 63, 64, 65, 95, 96, 97, 255, 256, 257, 2500};

TEST(DecodeAttention, RaggedHeads) {
  check({kRagged, 2, 64, 64}, {}, "ragged");
  check({kRagged, 1, 32, 48}, {}, "ragged, one cache head per query head");
}

TEST(DecodeAttention, HeadSizes) {
  for (const size_t dim : {32, 40, 48, 64, 72, 80, 96, 112, 128, 160, 192, 256}) {
    check({{130, 0, 7}, 2, dim, dim}, {}, "dim " + std::to_string(dim));
  }
  check({{130, 7}, 3, 192, 128}, {}, "dims 192, 128");
  check({{130, 7}, 3, 33, 17}, {}, "dims 33, 17");
  check({{130, 7}, 3, 1, 1}, {}, "dims 1, 1");
  check({{130, 7}, 1, 320, 320}, {}, "dims 320, 320");
}

TEST(DecodeAttention, Groups) {
  for (size_t group = 1; group <= 9; ++group) {
    check({{65, 300, 0}, group, 40, 40}, {}, "group " + std::to_string(group));
  }
}

TEST(DecodeAttention, SoftcapAndScale) {
  check({kRagged, 3, 40, 40, 10}, {.softcap = 20}, "softcap 20");
  check({{100, 3}, 3, 40, 40, 1000}, {.softcap = 50}, "softcap 50, saturated");
  check({{100, 3}, 3, 40, 40}, {.scale = 0.5F}, "scale 0.5");
  check({{100, 3}, 3, 40, 40}, {.sliding_window = 2}, "a window, which is not read");
}

TEST(DecodeAttention, BiasesAreAddedToLogits) {
  for (const KvType type : kTypes) {
    const std::string name(kv_type_name(type));
    for (const size_t group : {1, 3, 6}) {
      const Token token(kRagged, group, 40, 24, 1, 1, type, 2);
      compare(token, {}, name + ", biases", 4.0);
      compare(token, {.softcap = 5}, name + ", biases behind a soft cap", 4.0);
    }
    Token token({40, 100}, 2, 32, 24, 1, 1, type, 2);
    const std::vector<float> row(2 * 32, 0.3F);
    token.cache().limit(0, 100);
    for (size_t i = 0; i < 70;
         ++i) {  // rows without biases follow; the longer head hides its first
      token.cache().append(0, {row.data(), 2, 32}, {row.data(), 2, 24},
                           static_cast<int32_t>(100 + i));
      if (i % 9 == 0) compare(token, {}, name + ", further rows", 4.0);
    }
    EXPECT_EQ(token.cache().bias(0, 0).back(), 0.0F);
  }
}

/// The sinks of every query head, from ones that nobody sees to ones that hide most.
std::vector<float> some_sinks(size_t query_heads) {
  std::vector<float> sinks(query_heads);
  for (size_t h = 0; h < query_heads; ++h) sinks[h] = static_cast<float>(h * 7 % 23) - 10.0F;
  return sinks;
}

TEST(DecodeAttention, SinksTakeTheirPartOfTheWeights) {
  for (const size_t group : {1, 3, 6}) {
    const std::vector<float> sinks = some_sinks(kRagged.size() * group);
    check({kRagged, group, 40, 24}, {.sink_logits = sinks}, "sinks");
    check({kRagged, group, 40, 24}, {.softcap = 5, .sink_logits = sinks}, "sinks, soft cap");
  }
  const Token token({40, 7}, 2, 32, 24);
  EXPECT_THROW(token.run({.sink_logits = some_sinks(3)}), Error);
  const std::vector<float> sinks = some_sinks(4);
  const AttentionOptions options{.sink_logits = sinks};
  const auto weights = token.weights(options, 50);
  for (size_t r = 0; r < token.rows(); ++r) {
    const Expected expected = token.expect_weights(options, r);
    for (size_t j = 0; j < weights[r].size(); ++j) {
      ASSERT_NEAR(weights[r][j], expected.values[j], 1e-5) << r;
    }
  }
}

TEST(DecodeAttention, LongHeadsAreSplit) {
  // The second threshold: more than 256 parts of 8 groups.
  check({{66000, 700}, 2, 16, 16}, {}, "66000 rows");
}

TEST(DecodeAttention, HugeLogits) { check({kRagged, 2, 64, 64, 2500}, {}, "logits of 1e4"); }

TEST(DecodeAttention, SubnormalHalves) {
  check({{100, 3}, 3, 40, 40, 1e6F, 1e-6F}, {}, "rows of 1e-6");
}

TEST(DecodeAttention, NoRowsGiveZeros) {
  const Token token({0, 0}, 3, 40, 24);
  EXPECT_EQ(token.run({}), std::vector<float>(6 * 24, 0.0F));
}

TEST(DecodeAttention, ThreadsDoNotChangeABit) {
  const int before = num_threads();
  for (const KvType type : kTypes) {
    const Token token(kRagged, 3, 64, 64, 1, 1, type);
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      results.push_back(token.run({}));
    }
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
  }
  set_num_threads(before);
}

TEST(DecodeAttention, HiddenRowsHaveNoWeight) {
  for (const KvType type : kTypes) {
    for (const size_t rows : {20, 40, 100}) {
      Token token({rows, rows}, 2, 32, 24, 1, 1, type);
      token.cache().limit(0, rows);
      std::mt19937 rng(7);
      std::normal_distribution<float> normal;
      for (size_t i = 0; i < 70; ++i) {
        std::vector<float> k(2 * 32), v(2 * 24);
        for (float& x : k) x = normal(rng);
        for (float& x : v) x = normal(rng);
        token.cache().append(0, {k.data(), 2, 32}, {v.data(), 2, 24},
                             static_cast<int32_t>(rows + i));
        ASSERT_EQ(token.cache().heads(0)[1].count, rows);
        if (i % 9 == 0) compare(token, {}, "a window", 4.0);
      }
    }
  }
}

TEST(DecodeAttention, HandsOutItsWeights) {
  const std::vector<size_t> counts = {1, 31, 32, 33, 97, 300};
  for (const KvType type : kTypes) {
    Token token(counts, 3, 40, 24, 2, 1, type, type == KvType::kF16 ? 1.5F : 0.0F);
    token.cache().limit(0, 300);
    const std::vector<float> row(counts.size() * 40, 0.3F);
    for (size_t i = 0; i < 10; ++i) {  // the longest head hides its first rows
      token.cache().append(0, {row.data(), counts.size(), 40}, {row.data(), counts.size(), 24},
                           static_cast<int32_t>(300 + i));
    }
    for (const AttentionOptions& options : {AttentionOptions{}, AttentionOptions{.softcap = 5}}) {
      for (const int64_t target : testing::simd_targets()) {
        const testing::ForcedSimdTarget forced(target);
        const auto actual = token.weights(options, 311);
        for (size_t r = 0; r < token.rows(); ++r) {
          const Expected expected = token.expect_weights(options, r);
          ASSERT_EQ(actual[r].size(), expected.cols);
          EXPECT_LE(testing::worst_error(expected, 0, actual[r].data()), 4.0)
              << testing::simd_target_name(target) << ", " << kv_type_name(type) << ", query head "
              << r;
          EXPECT_NEAR(std::accumulate(actual[r].begin(), actual[r].end(), 0.0), 1.0, 1e-5);
        }
      }
    }
  }
}

TEST(DecodeAttention, RefusesShapesThatDoNotFit) {
  std::vector<float> memory(64);
  const std::vector<CachedHead> heads(2);
  const auto refused = [&](size_t query_rows, size_t cache_heads, size_t out_rows) {
    try {
      decode_attention({memory.data(), query_rows, 8}, std::span(heads).first(cache_heads), {},
                       {memory.data() + 32, out_rows, 8});
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("decode_attention"), std::string::npos) << e.what();
      return e.code() == ErrorCode::kInvalidArgument;
    }
    return false;
  };
  EXPECT_FALSE(refused(4, 2, 4));
  EXPECT_TRUE(refused(4, 0, 4)) << "no cache heads";
  EXPECT_TRUE(refused(3, 2, 3)) << "3 query heads over 2 cache heads";
  EXPECT_TRUE(refused(4, 2, 2)) << "out rows";
  const std::vector<CachedHead> mixed = {{.type = KvType::kF16}, {.type = KvType::kQ8}};
  EXPECT_THROW(decode_attention({memory.data(), 2, 8}, mixed, {}, {memory.data() + 32, 2, 8}),
               Error);
  EXPECT_THROW(decode_attention({memory.data(), 2, 8}, heads, {}, {memory.data() + 32, 2, 8},
                                {memory.data() + 16, 1, 8}),
               Error)
      << "weights of one query head of two";
}

}  // namespace
}  // namespace restkv
