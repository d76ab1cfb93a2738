#include <ggml.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include "attention/reference.h"
#include "base/threads.h"
#include "restkv/attention.h"
#include "restkv/error.h"
#include "support/simd.h"

namespace restkv {
namespace {

using testing::Expected;

/// A ragged cache of random rows, stored in both types, and the queries of one token.
struct Token {
  Token(std::vector<size_t> counts, size_t group, size_t dim, size_t value_dim,
        float query_factor = 1, float row_factor = 1)
      : group_(group), dim_(dim), value_dim_(value_dim) {
    std::mt19937 rng(static_cast<uint32_t>(dim * 100 + group));
    std::normal_distribution<float> normal;
    for (const size_t count : counts) {
      Rows keys(count * dim, row_factor, rng);
      Rows values(count * value_dim, row_factor, rng);
      halves_.push_back({keys.halves.data(), values.halves.data(), count, KvType::kF16});
      floats_.push_back({keys.floats.data(), values.floats.data(), count, KvType::kF32});
      keys_.push_back(std::move(keys));
      values_.push_back(std::move(values));
    }
    queries_.resize(counts.size() * group * dim);
    for (auto& q : queries_) q = normal(rng) * query_factor;
  }

  [[nodiscard]] size_t rows() const { return halves_.size() * group_; }

  /// The rows of `out` have room between them, which must stay untouched.
  [[nodiscard]] std::vector<float> run(const AttentionOptions& options,
                                       KvType type = KvType::kF16) const {
    const size_t stride = value_dim_ + 5;
    std::vector<float> out(rows() * stride, -12345.0F);
    decode_attention({queries_.data(), rows(), dim_}, type == KvType::kF16 ? halves_ : floats_,
                     options, {out.data(), rows(), value_dim_, stride});
    std::vector<float> packed;
    for (size_t r = 0; r < rows(); ++r) {
      packed.insert(packed.end(), &out[r * stride], &out[r * stride] + value_dim_);
      for (size_t c = value_dim_; c < stride; ++c) EXPECT_EQ(out[r * stride + c], -12345.0F);
    }
    return packed;
  }

  /// In float64; the floats are the halves.
  [[nodiscard]] Expected expect(const AttentionOptions& options) const {
    Expected expected;
    for (size_t r = 0; r < rows(); ++r) {
      const size_t h = r / group_;
      expect_attention(queries_.data() + r * dim_, {keys_[h].floats.data(), floats_[h].count, dim_},
                       {values_[h].floats.data(), floats_[h].count, value_dim_}, options, expected);
    }
    return expected;
  }

 private:
  struct Rows {
    Rows(size_t count, float factor, std::mt19937& rng) : halves(count), floats(count) {
      std::normal_distribution<float> normal;
      std::generate(halves.begin(), halves.end(),
                    [&] { return ggml_fp32_to_fp16(factor * normal(rng)); });
      std::transform(halves.begin(), halves.end(), floats.begin(), ggml_fp16_to_fp32);
    }
    std::vector<uint16_t> halves;
    std::vector<float> floats;
  };
  size_t group_, dim_, value_dim_;
  std::vector<Rows> keys_, values_;
  std::vector<CachedHead> halves_, floats_;
  std::vector<float> queries_;
};

/// Compares with float64 on every instruction set.
void check(const Token& token, const AttentionOptions& options, const std::string& what) {
  const Expected expected = token.expect(options);
  for (const int64_t target : testing::simd_targets()) {
    const testing::ForcedSimdTarget forced(target);
    for (const KvType type : {KvType::kF16, KvType::kF32}) {
      const std::vector<float> actual = token.run(options, type);
      for (size_t r = 0; r < token.rows(); ++r) {
        EXPECT_LE(testing::worst_error(expected, r, actual.data() + r * expected.cols), 1.0)
            << testing::simd_target_name(target) << ", " << 8 * element_bytes(type) << " bits, "
            << what << ": query head " << r << " is wrong by that many tolerances";
      }
    }
  }
}

const std::vector<size_t> kRagged = {0, 1, 63, 64, 65, 2047, 2048, 2049, 5000};

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
}

TEST(DecodeAttention, Groups) {
  for (size_t group = 1; group <= 9; ++group) {
    check({{65, 2049, 0}, group, 40, 40}, {}, "group " + std::to_string(group));
  }
}

TEST(DecodeAttention, SoftcapAndScale) {
  check({kRagged, 3, 40, 40, 10}, {.softcap = 20}, "softcap 20");
  check({{100, 3}, 3, 40, 40, 1000}, {.softcap = 50}, "softcap 50, saturated");
  check({{100, 3}, 3, 40, 40}, {.scale = 0.5F}, "scale 0.5");
  check({{100, 3}, 3, 40, 40}, {.sliding_window = 2}, "a window, which is not read");
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
  const Token token(kRagged, 3, 64, 64);
  std::vector<std::vector<float>> results;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    results.push_back(token.run({}));
  }
  set_num_threads(before);
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
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
}

}  // namespace
}  // namespace restkv
