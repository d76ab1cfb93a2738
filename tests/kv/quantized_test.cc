// Properties of quantised groups: bounds of the error, independence of how rows arrived, memory.
#include <ggml.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "kv/kv_layout.h"
#include "restkv/error.h"
#include "restkv/kv_cache.h"
#include "support/simd.h"

namespace restkv {
namespace {

constexpr std::array kAllTypes = {KvType::kF16, KvType::kF32, KvType::kQ8, KvType::kQ4};

double levels(KvType type) { return type == KvType::kQ8 ? 255 : 15; }

/// Rows of one head, rounded to halves so that quantising is the only loss.
struct Rows {
  Rows(size_t count, size_t key_dim, size_t value_dim, uint32_t seed, float factor = 1,
       float offset = 0)
      : keys(count * key_dim),
        values(count * value_dim),
        k(keys.data(), count, key_dim),
        v(values.data(), count, value_dim) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    const auto draw = [&] {
      return ggml_fp16_to_fp32(ggml_fp32_to_fp16(offset + factor * normal(rng)));
    };
    std::generate(keys.begin(), keys.end(), draw);
    std::generate(values.begin(), values.end(), draw);
  }
  std::vector<float> keys, values;
  Matrix<float> k, v;
};

std::vector<std::byte> pack_residual(const KvLayout& layout, const Rows& rows) {
  std::vector<std::byte> residual(rows.k.rows * layout.row_bytes());
  for (size_t r = 0; r < rows.k.rows; ++r) {
    pack_row(layout, rows.k.row(r), rows.v.row(r), residual.data() + r * layout.row_bytes());
  }
  return residual;
}

/// Half a scale of a range of elements, when min and scale are halves that enclose the range.
double largest_error(KvType type, float low, float high) {
  constexpr double kHalf = 0x1p-10;  // distance of neighbouring halves, relative
  constexpr double kTiny = 0x1p-24;  // and absolute, near zero
  const double range = double{high} - low + std::abs(low) * kHalf + kTiny;
  const double scale = range / levels(type) * (1 + kHalf) + kTiny;
  return scale / 2 * (1 + 1e-5) + std::abs(low) * 1e-6;
}

void expect_within_half_a_scale(KvType type, const Rows& rows) {
  const KvLayout layout{type, rows.k.cols, rows.v.cols};
  std::vector<std::byte> block(layout.block_bytes() + 1, std::byte{0x5a});
  pack_block(layout, pack_residual(layout, rows).data(), block.data());
  EXPECT_EQ(block.back(), std::byte{0x5a}) << "written beyond the end";
  Rows read(kBlockRows, rows.k.cols, rows.v.cols, 0);
  unpack_block(layout, block.data(), read.k, read.v);
  for (size_t c = 0; c < rows.k.cols; ++c) {
    float low = rows.k.row(0)[c];
    float high = low;
    for (size_t r = 0; r < kBlockRows; ++r) {
      low = std::min(low, rows.k.row(r)[c]);
      high = std::max(high, rows.k.row(r)[c]);
    }
    for (size_t r = 0; r < kBlockRows; ++r) {
      ASSERT_NEAR(read.k.row(r)[c], rows.k.row(r)[c], largest_error(type, low, high))
          << kv_type_name(type) << " key, row " << r << ", channel " << c;
    }
  }
  for (size_t r = 0; r < kBlockRows; ++r) {
    for (size_t first = 0; first < rows.v.cols; first += kSliceChannels) {
      const size_t end = std::min(rows.v.cols, first + kSliceChannels);
      const auto [low, high] = std::minmax_element(rows.v.row(r) + first, rows.v.row(r) + end);
      for (size_t c = first; c < end; ++c) {
        ASSERT_NEAR(read.v.row(r)[c], rows.v.row(r)[c], largest_error(type, *low, *high))
            << kv_type_name(type) << " value, row " << r << ", channel " << c;
      }
    }
  }
}

class QuantizedTest : public ::testing::TestWithParam<int64_t> {
 protected:
  QuantizedTest() : forced_(GetParam()) {}

 private:
  testing::ForcedSimdTarget forced_;
};

TEST_P(QuantizedTest, ErrorsAreAtMostHalfAScale) {
  for (const KvType type : {KvType::kQ8, KvType::kQ4}) {
    for (const size_t dim : {1, 7, 16, 33, 64, 65, 128, 130}) {
      expect_within_half_a_scale(type, {kBlockRows, dim, dim + 3, static_cast<uint32_t>(dim)});
    }
    // Far from zero, tiny, subnormal, huge: mins and scales that halves cannot hold exactly.
    expect_within_half_a_scale(type, {kBlockRows, 40, 80, 1, 0.01F, 300});
    expect_within_half_a_scale(type, {kBlockRows, 40, 80, 2, 0.01F, -300});
    expect_within_half_a_scale(type, {kBlockRows, 40, 80, 3, 1e-4F});
    expect_within_half_a_scale(type, {kBlockRows, 40, 80, 4, 1e-6F});
    expect_within_half_a_scale(type, {kBlockRows, 40, 80, 5, 10000});
  }
}

TEST_P(QuantizedTest, RandomShapesAndScales) {
  std::mt19937 rng(11);
  for (int run = 0; run < 60; ++run) {
    const size_t key_dim = 1 + rng() % 150;
    const size_t value_dim = 1 + rng() % 150;
    const float factor = std::exp2(static_cast<float>(rng() % 30) - 18);
    const float offset = factor * (static_cast<float>(rng() % 2001) / 100 - 10);
    for (const KvType type : {KvType::kQ8, KvType::kQ4}) {
      expect_within_half_a_scale(
          type, Rows(kBlockRows, key_dim, value_dim, static_cast<uint32_t>(rng()), factor, offset));
    }
  }
}

TEST_P(QuantizedTest, EqualElementsAreExact) {
  for (const KvType type : {KvType::kQ8, KvType::kQ4}) {
    for (const float x : {0.0F, -0.0F, 1.5F, -65504.0F, 65504.0F, 0x1p-24F}) {
      Rows rows(kBlockRows, 20, 70, 1);
      std::fill(rows.keys.begin(), rows.keys.end(), x);
      std::fill(rows.values.begin(), rows.values.end(), x);
      const KvLayout layout{type, 20, 70};
      std::vector<std::byte> block(layout.block_bytes());
      pack_block(layout, pack_residual(layout, rows).data(), block.data());
      Rows read(kBlockRows, 20, 70, 0);
      unpack_block(layout, block.data(), read.k, read.v);
      EXPECT_EQ(read.keys, rows.keys) << x;
      EXPECT_EQ(read.values, rows.values) << x;
    }
  }
}

TEST_P(QuantizedTest, WhatIsNotFiniteStaysVisible) {
  using Limits = std::numeric_limits<float>;
  for (const KvType type : {KvType::kQ8, KvType::kQ4}) {
    for (const float x : {Limits::quiet_NaN(), Limits::infinity(), -Limits::infinity(), 1e6F}) {
      for (const size_t at : {0, 5, 31}) {
        Rows rows(kBlockRows, 20, 70, 1);
        rows.k.row(at)[3] = x;
        rows.v.row(at)[69] = x;
        const KvLayout layout{type, 20, 70};
        std::vector<std::byte> block(layout.block_bytes());
        pack_block(layout, pack_residual(layout, rows).data(), block.data());
        Rows read(kBlockRows, 20, 70, 0);
        unpack_block(layout, block.data(), read.k, read.v);
        EXPECT_TRUE(std::isnan(read.k.row(at)[3]));
        EXPECT_TRUE(std::isnan(read.v.row(at)[69]));
        EXPECT_TRUE(std::isfinite(read.k.row(at)[2]));
        EXPECT_TRUE(std::isfinite(read.v.row(at)[0])) << "another slice";
      }
    }
  }
}

TEST_P(QuantizedTest, EveryInstructionSetStoresTheSameBytes) {
  const Rows rows(kBlockRows, 77, 130, 5);
  for (const KvType type : kAllTypes) {
    const KvLayout layout{type, 77, 130};
    std::vector<std::byte> here(layout.block_bytes()), there(layout.block_bytes());
    pack_block(layout, pack_residual(layout, rows).data(), here.data());
    const testing::ForcedSimdTarget other(testing::simd_targets().back());
    pack_block(layout, pack_residual(layout, rows).data(), there.data());
    EXPECT_EQ(here, there) << kv_type_name(type);
  }
}

INSTANTIATE_TEST_SUITE_P(Simd, QuantizedTest, ::testing::ValuesIn(testing::simd_targets()),
                         [](const auto& test) { return testing::simd_target_name(test.param); });

std::vector<int32_t> first_positions(size_t count) {
  std::vector<int32_t> positions(count);
  std::iota(positions.begin(), positions.end(), 0);
  return positions;
}

/// Everything a head of a cache holds.
struct Held {
  Held(const KvCache& cache, size_t head, size_t key_dim, size_t value_dim)
      : keys(cache.heads(0)[head].count * key_dim), values(cache.heads(0)[head].count * value_dim) {
    const size_t count = cache.heads(0)[head].count;
    cache.read(0, head, {keys.data(), count, key_dim}, {values.data(), count, value_dim});
  }
  bool operator==(const Held&) const = default;
  std::vector<float> keys, values;
};

TEST(StoredRows, AppendingGivesWhatGatheringGives) {
  constexpr size_t kRows = 200;
  const Rows rows(kRows, 24, 70, 3);
  const Heads<const float> keys(rows.keys.data(), 1, kRows, 24);
  const Heads<const float> values(rows.values.data(), 1, kRows, 70);
  for (const KvType type : kAllTypes) {
    KvCache appended(1, 1, 24, 70, type);
    for (size_t n = 0; n < kRows; ++n) {
      KvCache gathered(1, 1, 24, 70, type);
      gathered.gather(0, keys, values, {{first_positions(n)}});
      if (n > 0) {
        ASSERT_TRUE(Held(gathered, 0, 24, 70) == Held(appended, 0, 24, 70))
            << n << " rows, " << kv_type_name(type);
        ASSERT_EQ(gathered.kept_bytes(), appended.kept_bytes());
      }
      appended.append(0, {rows.k.row(n), 1, 24}, {rows.v.row(n), 1, 70}, static_cast<int32_t>(n));
    }
  }
}

std::string stored_bytes(const KvCache& cache) {
  std::string bytes;
  ByteWriter writer([&](std::string_view part) { bytes += part; });
  cache.save(writer);
  return bytes;
}

// Rows of an open layer may be dropped again and again. What is left is stored as if there had been
// nothing else.
TEST(StoredRows, OpenLayersDropRowsBeforeTheyArePacked) {
  constexpr size_t kRows = 300;
  std::mt19937 random(11);
  const Rows rows(2 * kRows, 24, 70, 3);
  const Heads<const float> keys(rows.keys.data(), 2, kRows, 24);
  const Heads<const float> values(rows.values.data(), 2, kRows, 70);
  std::vector<int32_t> shifted = first_positions(kRows);
  for (int32_t& position : shifted) position += 5;
  const std::vector<std::vector<int32_t>> positions(2, shifted);
  for (const KvType type : kAllTypes) {
    for (const size_t left : {0, 1, 31, 32, 33, 64, 97, 250}) {
      Selection kept{{first_positions(kRows), first_positions(kRows - 7)}};
      KvCache cache(1, 2, 24, 70, type);
      cache.gather(0, keys, values, kept, positions, true);
      EXPECT_TRUE(cache.heads(0).empty());
      while (kept.keep[0].size() > left) {
        Selection cut;
        for (auto& head : kept.keep) {
          std::vector<int32_t> some = first_positions(head.size());
          std::shuffle(some.begin(), some.end(), random);
          some.resize(std::min(head.size(), std::max(left, head.size() * 2 / 3)));
          std::sort(some.begin(), some.end());
          std::vector<int32_t> those;
          for (const int32_t row : some) those.push_back(head[static_cast<size_t>(row)]);
          head = those;
          cut.keep.push_back(some);
        }
        cache.keep(0, cut);
        EXPECT_EQ(cache.positions(0, 1).size(), kept.keep[1].size());
        const size_t row_bytes = KvLayout{type, 24, 70}.row_bytes();
        EXPECT_EQ(cache.kept_bytes(), (kept.keep[0].size() + kept.keep[1].size()) * row_bytes);
      }
      cache.close(0);
      KvCache once(1, 2, 24, 70, type);
      once.gather(0, keys, values, kept, positions);
      EXPECT_EQ(stored_bytes(cache), stored_bytes(once)) << kv_type_name(type) << " " << left;
      EXPECT_EQ(cache.heads(0).size(), 2U);
      EXPECT_THROW(cache.keep(0, kept), Error) << "it is closed";
    }
  }
  KvCache cache(1, 2, 24, 70);
  cache.gather(0, keys, values, {{{1, 2}, {3}}}, {}, true);
  EXPECT_THROW(cache.keep(0, {{{0, 1}, {1}}}), Error) << "a row that is not there";
  EXPECT_THROW(cache.keep(0, {{{0, 1}}}), Error) << "a head is missing";
}

TEST(StoredRows, TheLastOnesOfAQuantisedHeadAreHalves) {
  constexpr size_t kRows = 150;
  const Rows rows(kRows, 24, 70, 4);
  for (const KvType type : {KvType::kQ8, KvType::kQ4}) {
    KvCache cache(1, 1, 24, 70, type);
    for (size_t n = 0; n < kRows; ++n) {
      cache.append(0, {rows.k.row(n), 1, 24}, {rows.v.row(n), 1, 70}, static_cast<int32_t>(n));
      const Held held(cache, 0, 24, 70);
      const size_t exact = std::min<size_t>(n + 1, 32);
      EXPECT_TRUE(std::equal(held.keys.end() - static_cast<ptrdiff_t>(exact * 24), held.keys.end(),
                             rows.k.row(n + 1 - exact)));
      EXPECT_TRUE(std::equal(held.values.end() - static_cast<ptrdiff_t>(exact * 70),
                             held.values.end(), rows.v.row(n + 1 - exact)));
    }
  }
}

TEST(StoredRows, TakeTheMemoryTheirTypePromises) {
  constexpr size_t kRows = 4096;
  constexpr size_t kDim = 128;
  const Rows rows(kRows, kDim, kDim, 5);
  const Heads<const float> keys(rows.keys.data(), 1, kRows, kDim);
  const Heads<const float> values(rows.values.data(), 1, kRows, kDim);
  const auto bits = [&](KvType type) {
    KvCache cache(1, 1, kDim, kDim, type);
    cache.gather(0, keys, values, {{first_positions(kRows)}});
    EXPECT_LE(static_cast<double>(cache.allocated_bytes()),
              1.07 * static_cast<double>(cache.kept_bytes()));
    return 8.0 * static_cast<double>(cache.kept_bytes()) / (2.0 * kDim * kRows);
  };
  EXPECT_EQ(bits(KvType::kF32), 32);
  EXPECT_EQ(bits(KvType::kF16), 16);
  // Keys carry 32 bits of scale per 32 elements, values per 64; 32 rows are still halves.
  EXPECT_NEAR(bits(KvType::kQ8), 8 + 0.75 + 32.0 / kRows * 7.25, 1e-9);
  EXPECT_NEAR(bits(KvType::kQ4), 4 + 0.75 + 32.0 / kRows * 11.25, 1e-9);
}

TEST(StoredRows, ASlidingWindowKeepsTheLastOnes) {
  constexpr size_t kRows = 300;
  const Rows rows(kRows, 24, 70, 6);
  for (const KvType type : kAllTypes) {
    for (const size_t window : {1, 5, 31, 32, 33, 64, 90}) {
      KvCache cache(1, 1, 24, 70, type);
      cache.limit(0, window);
      KvCache unlimited(1, 1, 24, 70, type);
      for (size_t n = 0; n < kRows; ++n) {
        for (KvCache* c : {&cache, &unlimited}) {
          c->append(0, {rows.k.row(n), 1, 24}, {rows.v.row(n), 1, 70}, static_cast<int32_t>(n));
        }
        const size_t count = std::min(n + 1, window);
        ASSERT_EQ(cache.heads(0)[0].count, count);
        const auto positions = cache.positions(0, 0);
        ASSERT_EQ(positions.size(), count);
        for (size_t i = 0; i < count; ++i) {
          ASSERT_EQ(positions[i], static_cast<int32_t>(n + 1 - count + i));
        }
        ASSERT_LE(cache.allocated_bytes(), (window + 64 + 64) * (24 + 70 + 1) * sizeof(float));
        if (n % 13 != 0) continue;
        const Held held(cache, 0, 24, 70);
        const Held all(unlimited, 0, 24, 70);
        ASSERT_TRUE(std::equal(held.keys.rbegin(), held.keys.rend(), all.keys.rbegin()));
        ASSERT_TRUE(std::equal(held.values.rbegin(), held.values.rend(), all.values.rbegin()));
      }
    }
  }
  KvCache cache(1, 1, 24, 70);
  cache.append(0, {rows.k.row(0), 1, 24}, {rows.v.row(0), 1, 70}, 0);
  cache.append(0, {rows.k.row(1), 1, 24}, {rows.v.row(1), 1, 70}, 1);
  EXPECT_THROW(cache.limit(0, 1), Error) << "it holds 2";
  EXPECT_THROW(cache.limit(0, 0), Error);
  EXPECT_THROW(cache.limit(1, 5), Error) << "no such layer";
}

TEST(StoredRows, RandomCallsKeepWhatTheyWereGiven) {
  std::mt19937 rng(8);
  for (int run = 0; run < 40; ++run) {
    const KvType type = kAllTypes[rng() % 4];
    const size_t key_dim = 1 + rng() % 70;
    const size_t value_dim = 1 + rng() % 140;
    const size_t kv_heads = 1 + rng() % 3;
    const size_t n = 1 + rng() % 300;
    const Rows rows(kv_heads * n, key_dim, value_dim, static_cast<uint32_t>(rng()));
    const Heads<const float> keys(rows.keys.data(), kv_heads, n, key_dim);
    const Heads<const float> values(rows.values.data(), kv_heads, n, value_dim);
    KvCache cache(1, kv_heads, key_dim, value_dim, type);
    std::vector<std::vector<int32_t>> expected(kv_heads * (1 + rng() % 2));
    for (auto& keep : expected) {
      for (size_t i = 0; i < n; ++i) {
        if (rng() % 3 == 0) keep.push_back(static_cast<int32_t>(i));
      }
    }
    cache.gather(0, keys, values, {expected});
    for (size_t i = rng() % 100; i > 0; --i) {
      const size_t row = rng() % n;
      cache.append(0, {keys.row(0, row), kv_heads, key_dim, keys.head_stride},
                   {values.row(0, row), kv_heads, value_dim, values.head_stride},
                   static_cast<int32_t>(row));
      for (auto& keep : expected) keep.push_back(static_cast<int32_t>(row));
    }
    for (size_t h = 0; h < expected.size(); ++h) {
      const auto positions = cache.positions(0, h);
      ASSERT_EQ(std::vector<int32_t>(positions.begin(), positions.end()), expected[h]);
      const Held held(cache, h, key_dim, value_dim);
      const size_t kv_head = h * kv_heads / expected.size();
      for (size_t i = 0; i < expected[h].size(); ++i) {
        const auto row = static_cast<size_t>(expected[h][i]);
        // A range of normal numbers rarely exceeds 8; half a scale of it is 0.27 with 4 bits.
        const double tolerance = type == KvType::kQ4 ? 0.4 : type == KvType::kQ8 ? 0.025 : 0;
        for (size_t c = 0; c < key_dim; ++c) {
          ASSERT_NEAR(held.keys[i * key_dim + c], keys.row(kv_head, row)[c], tolerance);
        }
        for (size_t c = 0; c < value_dim; ++c) {
          ASSERT_NEAR(held.values[i * value_dim + c], values.row(kv_head, row)[c], tolerance);
        }
      }
    }
  }
}

TEST(StoredRows, ReadRefusesWhatDoesNotFit) {
  KvCache cache(2, 1, 8, 8);
  std::vector<float> room(64);
  const std::vector<float> row(8, 1.0F);
  cache.append(0, {row.data(), 1, 8}, {row.data(), 1, 8}, 0);
  const Matrix<float> one(room.data(), 1, 8);
  const Matrix<float> two(room.data(), 2, 8);
  cache.read(0, 0, one, one);
  EXPECT_THROW(cache.read(0, 0, two, two), Error);
  EXPECT_THROW(cache.read(0, 0, one, {room.data(), 1, 7}), Error);
  EXPECT_THROW(cache.read(0, 1, one, one), Error);
  EXPECT_THROW(cache.read(1, 0, one, one), Error);
  EXPECT_THROW(cache.read(2, 0, one, one), Error);
}

TEST(KvTypes, HaveNames) {
  for (const KvType type : kAllTypes) EXPECT_EQ(find_kv_type(kv_type_name(type)), type);
  try {
    static_cast<void>(find_kv_type("q5"));
    ADD_FAILURE() << "no error";
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(e.what()).find("f16, f32, q8, q4"), std::string::npos) << e.what();
  }
}

}  // namespace
}  // namespace restkv
