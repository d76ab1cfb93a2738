#include "restkv/kv_cache.h"

#include <ggml.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "base/bytes.h"
#include "restkv/error.h"
#include "support/refusal.h"

namespace restkv {
namespace {

using testing::refusal;

/// [heads, n, dim] of numbers that halves cannot hold exactly; rows lie apart from each other.
class RandomHeads {
 public:
  RandomHeads(size_t heads, size_t n, size_t dim, uint32_t seed)
      : storage_(heads * n * (dim + 3)),
        view_(storage_.data(), heads, n, dim, dim + 3, heads * (dim + 3)) {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    std::generate(storage_.begin(), storage_.end(), [&] { return normal(rng); });
  }
  [[nodiscard]] Heads<const float> view() const { return view_; }
  /// Row `r` of every head, as `append` wants it.
  [[nodiscard]] Matrix<const float> token(size_t r) const {
    return {view_.row(0, r), view_.heads, view_.dim, view_.head_stride};
  }

 private:
  std::vector<float> storage_;
  Heads<float> view_;
};

/// What a cache holds, as floats.
struct Rows {
  Rows(const KvCache& cache, size_t layer, size_t head, size_t key_dim, size_t value_dim)
      : count(cache.heads(layer)[head].count),
        keys(count * key_dim),
        values(count * value_dim),
        key_rows(keys.data(), count, key_dim),
        value_rows(values.data(), count, value_dim) {
    cache.read(layer, head, key_rows, value_rows);
  }
  [[nodiscard]] std::vector<float> key(size_t i) const {
    return {key_rows.row(i), key_rows.row(i) + key_rows.cols};
  }
  [[nodiscard]] std::vector<float> value(size_t i) const {
    return {value_rows.row(i), value_rows.row(i) + value_rows.cols};
  }

  size_t count;
  std::vector<float> keys, values;
  Matrix<float> key_rows, value_rows;
};

size_t element_bytes(KvType type) { return type == KvType::kF32 ? 4 : 2; }

/// What must be stored for a row of floats.
std::vector<float> rounded(const float* row, size_t dim, KvType type) {
  std::vector<float> result(row, row + dim);
  if (type == KvType::kF16) {
    for (float& x : result) x = ggml_fp16_to_fp32(ggml_fp32_to_fp16(x));
  }
  return result;
}

constexpr size_t kKeyDim = 24;
constexpr size_t kValueDim = 17;

class KvCacheTest : public ::testing::TestWithParam<KvType> {
 protected:
  KvType type_ = GetParam();
};

TEST_P(KvCacheTest, GathersTheSelectedRowsOfEveryHead) {
  const RandomHeads keys(2, 50, kKeyDim, 1);
  const RandomHeads values(2, 50, kValueDim, 2);
  const Selection selection{{{0, 7, 8, 49}, {}, {3}, {48, 49}}};  // 2 cache heads per KV head
  KvCache cache(3, 2, kKeyDim, kValueDim, type_);
  cache.gather(1, keys.view(), values.view(), selection);

  ASSERT_EQ(cache.layers(), 3U);
  EXPECT_TRUE(cache.heads(0).empty());
  ASSERT_EQ(cache.heads(1).size(), 4U);
  size_t rows = 0;
  for (size_t h = 0; h < 4; ++h) {
    const auto& keep = selection.keep[h];
    const CachedHead& head = cache.heads(1)[h];
    ASSERT_EQ(head.count, keep.size());
    const auto positions = cache.positions(1, h);
    EXPECT_EQ(std::vector<int32_t>(positions.begin(), positions.end()), keep);
    const Rows stored(cache, 1, h, kKeyDim, kValueDim);
    for (size_t i = 0; i < keep.size(); ++i) {
      const auto position = static_cast<size_t>(keep[i]);
      EXPECT_EQ(stored.key(i), rounded(keys.view().row(h / 2, position), kKeyDim, type_));
      EXPECT_EQ(stored.value(i), rounded(values.view().row(h / 2, position), kValueDim, type_));
    }
    rows += keep.size();
  }
  EXPECT_EQ(cache.kept_bytes(), rows * (kKeyDim + kValueDim) * element_bytes(type_));

  cache.gather(1, keys.view(), values.view(), {{{5}, {6}}});
  ASSERT_EQ(cache.heads(1).size(), 2U) << "a second gather replaces the first";
  EXPECT_EQ(cache.kept_bytes(), 2 * (kKeyDim + kValueDim) * element_bytes(type_));
}

TEST_P(KvCacheTest, AppendsToEveryCacheHead) {
  const RandomHeads keys(2, 400, kKeyDim, 3);
  const RandomHeads values(2, 400, kValueDim, 4);
  for (const bool per_query_head : {false, true}) {
    KvCache cache(1, 2, kKeyDim, kValueDim, type_);
    const Selection selection =
        per_query_head ? Selection{{{1, 2}, {3}, {}, {4}, {5}, {6}}} : Selection{{{1, 2}, {3}}};
    cache.gather(0, keys.view(), values.view(), selection);
    for (size_t i = 100; i < 400; ++i) {
      cache.append(0, keys.token(i), values.token(i), static_cast<int32_t>(i));
    }
    const size_t repeat = selection.keep.size() / 2;
    for (size_t h = 0; h < selection.keep.size(); ++h) {
      const CachedHead& head = cache.heads(0)[h];
      const size_t before = selection.keep[h].size();
      ASSERT_EQ(head.count, before + 300);
      const Rows stored(cache, 0, h, kKeyDim, kValueDim);
      for (size_t i = 0; i < 300; ++i) {
        ASSERT_EQ(cache.positions(0, h)[before + i], static_cast<int32_t>(100 + i));
        ASSERT_EQ(stored.key(before + i),
                  rounded(keys.view().row(h / repeat, 100 + i), kKeyDim, type_));
        ASSERT_EQ(stored.value(before + i),
                  rounded(values.view().row(h / repeat, 100 + i), kValueDim, type_));
      }
    }
  }
}

TEST_P(KvCacheTest, AppendsToAnEmptyLayer) {
  const RandomHeads keys(2, 3, kKeyDim, 5);
  const RandomHeads values(2, 3, kValueDim, 6);
  KvCache cache(2, 2, kKeyDim, kValueDim, type_);
  cache.append(1, keys.token(2), values.token(2), 7);
  ASSERT_EQ(cache.heads(1).size(), 2U);
  for (size_t h = 0; h < 2; ++h) {
    EXPECT_EQ(cache.heads(1)[h].count, 1U);
    EXPECT_EQ(cache.positions(1, h)[0], 7);
    EXPECT_EQ(Rows(cache, 1, h, kKeyDim, kValueDim).key(0),
              rounded(keys.view().row(h, 2), kKeyDim, type_));
  }
}

TEST_P(KvCacheTest, ACopyGoesItsOwnWay) {
  const RandomHeads keys(2, 8, kKeyDim, 9);
  const RandomHeads values(2, 8, kValueDim, 10);
  KvCache copy;
  {
    KvCache cache(1, 2, kKeyDim, kValueDim, type_);
    cache.gather(0, keys.view(), values.view(), {{{1, 2}, {3}}});
    cache.next_position = 6;
    copy = cache;
    EXPECT_NE(copy.heads(0)[0].data, cache.heads(0)[0].data);
    cache.append(0, keys.token(6), values.token(6), 6);
    EXPECT_EQ(copy.heads(0)[0].count, 2U);
  }
  EXPECT_EQ(copy.next_position, 6U);
  copy.append(0, keys.token(7), values.token(7), 7);
  ASSERT_EQ(copy.heads(0)[1].count, 2U);
  const std::array<size_t, 2> rows{3, 7};
  const Rows stored(copy, 0, 1, kKeyDim, kValueDim);
  for (size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(copy.positions(0, 1)[i], static_cast<int32_t>(rows[i]));
    EXPECT_EQ(stored.key(i), rounded(keys.view().row(1, rows[i]), kKeyDim, type_));
    EXPECT_EQ(stored.value(i), rounded(values.view().row(1, rows[i]), kValueDim, type_));
  }
}

TEST_P(KvCacheTest, HoldsLittleMoreThanWhatItKeeps) {
  constexpr size_t kDim = 64;
  const RandomHeads keys(1, 4096, kDim, 7);
  const RandomHeads values(1, 4096, kDim, 8);
  const auto gathered = [&](int32_t rows) {
    std::vector<int32_t> keep(static_cast<size_t>(rows));
    std::iota(keep.begin(), keep.end(), 0);
    KvCache cache(1, 1, kDim, kDim, type_);
    cache.gather(0, keys.view(), values.view(), {{keep}});
    EXPECT_EQ(cache.kept_bytes(), keep.size() * 2 * kDim * element_bytes(type_));
    return cache;
  };
  const auto held = [](const KvCache& cache) {
    EXPECT_GE(cache.allocated_bytes(), cache.kept_bytes());
    return static_cast<double>(cache.allocated_bytes()) / static_cast<double>(cache.kept_bytes());
  };
  for (const int32_t rows : {64, 65, 1000, 4096}) EXPECT_LE(held(gathered(rows)), 1.05) << rows;

  // Spare room is 64 rows or 1/32 of them, whichever is more: little beside 1024 rows, and never
  // much in absolute terms.
  KvCache cache = gathered(1024);
  KvCache small = gathered(64);
  const double spare = 64.0 * (2.0 * kDim * static_cast<double>(element_bytes(type_)) + 4);
  for (size_t i = 1024; i < 3024; ++i) {
    cache.append(0, keys.token(i), values.token(i), static_cast<int32_t>(i));
    ASSERT_LE(held(cache), 1.10) << "after " << i - 1023 << " appended rows";
    small.append(0, keys.token(i), values.token(i), static_cast<int32_t>(i));
    ASSERT_LE(static_cast<double>(small.allocated_bytes()),
              1.05 * static_cast<double>(small.kept_bytes()) + spare);
  }
}

/// The biases of a head, and what a snapshot of the cache makes of them.
std::vector<float> biases_of(const KvCache& cache, size_t head, KvType type) {
  std::string bytes;
  ByteWriter out([&](std::string_view part) { bytes += part; });
  cache.save(out);
  cache.save_biases(out);
  KvCache loaded(1, 2, kKeyDim, kValueDim, type);
  ByteReader in("a file", bytes);
  loaded.load(in);
  loaded.load_biases(in);
  EXPECT_TRUE(in.at_end());
  const auto biases = cache.bias(0, head);
  EXPECT_TRUE(std::ranges::equal(loaded.bias(0, head), biases));
  const float* view = cache.heads(0)[head].bias;
  EXPECT_EQ(view == nullptr, biases.empty());
  EXPECT_EQ(loaded.heads(0)[head].bias == nullptr, biases.empty());
  return {biases.begin(), biases.end()};
}

TEST_P(KvCacheTest, BiasesStayWithTheirRows) {
  const RandomHeads keys(2, 60, kKeyDim, 20);
  const RandomHeads values(2, 60, kValueDim, 21);
  std::vector<float> numbers(2 * 70);
  std::iota(numbers.begin(), numbers.end(), 1.0F);
  const Matrix<const float> bias(numbers.data(), 2, 60, 70);  // row r of head h: 70 h + r + 1
  KvCache cache(1, 2, kKeyDim, kValueDim, type_);
  cache.gather(0, keys.view(), values.view(), {{{4, 9, 20}, {1, 59}}});
  EXPECT_EQ(biases_of(cache, 1, type_), std::vector<float>());
  const size_t plain = cache.kept_bytes();

  cache.gather(0, keys.view(), values.view(), {{{4, 9, 20}, {1, 59}}}, {}, true, bias);
  cache.keep(0, {{{0, 2}, {0, 1}}});
  cache.close(0);
  EXPECT_EQ(biases_of(cache, 0, type_), (std::vector<float>{5, 21}));
  EXPECT_EQ(biases_of(cache, 1, type_), (std::vector<float>{72, 130}));
  EXPECT_EQ(cache.kept_bytes(), plain / 5 * 4 + 4 * sizeof(float));

  const KvCache copy = cache;
  cache.append(0, keys.token(7), values.token(7), 60);
  EXPECT_EQ(biases_of(cache, 0, type_), (std::vector<float>{5, 21, 0}));
  EXPECT_EQ(biases_of(cache.first_rows(1), 0, type_), std::vector<float>{5});
  EXPECT_EQ(biases_of(copy, 0, type_), (std::vector<float>{5, 21}));

  // A window hides its oldest rows and drops 32 of them at once.
  cache.limit(0, 3);
  for (int32_t i = 61; i < 110; ++i) {
    cache.append(0, keys.token(7), values.token(7), i);
    const std::vector<float> expected =
        i == 61 ? std::vector<float>{21, 0, 0} : std::vector<float>{0, 0, 0};
    ASSERT_EQ(biases_of(cache, 0, type_), expected) << i;
  }
  // A selection per query head has the biases of its KV head.
  cache.gather(0, keys.view(), values.view(), {{{1}, {2}, {3}, {4}}}, {}, false, bias);
  EXPECT_EQ(cache.bias(0, 3)[0], 75);
}

TEST_P(KvCacheTest, OpenLayersTakeNewValues) {
  const RandomHeads keys(2, 60, kKeyDim, 22);
  const RandomHeads values(2, 60, kValueDim, 23);
  const RandomHeads fresh(1, 3, kValueDim, 24);
  KvCache cache(1, 2, kKeyDim, kValueDim, type_);
  cache.gather(0, keys.view(), values.view(), {{{4, 9, 20}, {1, 59}}}, {}, true);
  const std::vector<float> biases{1, 2, 3};
  cache.refit(0, 0, fresh.view().head(0), biases);
  cache.close(0);
  const Rows stored(cache, 0, 0, kKeyDim, kValueDim);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_EQ(stored.value(i), rounded(fresh.view().row(0, i), kValueDim, type_));
  }
  EXPECT_EQ(stored.key(1), rounded(keys.view().row(0, 9), kKeyDim, type_));
  EXPECT_EQ(biases_of(cache, 0, type_), biases);
  EXPECT_EQ(biases_of(cache, 1, type_), std::vector<float>());
  const Rows others(cache, 0, 1, kKeyDim, kValueDim);
  EXPECT_EQ(others.value(1), rounded(values.view().row(1, 59), kValueDim, type_));

  const auto refit = [&](size_t head, const Heads<const float>& of, size_t count) {
    return refusal(ErrorCode::kInvalidArgument,
                   [&] { cache.refit(0, head, of.head(0), std::span(biases).first(count)); });
  };
  EXPECT_NE(refit(0, fresh.view(), 3).find("closed"), std::string::npos);
  cache.gather(0, keys.view(), values.view(), {{{4, 9, 20}, {1, 59}}}, {}, true);
  refit(2, fresh.view(), 3);
  refit(1, fresh.view(), 3);
  refit(0, fresh.view(), 2);
  refit(0, RandomHeads(1, 3, kKeyDim, 25).view(), 3);
}

TEST_P(KvCacheTest, RefusesDamagedBiases) {
  const RandomHeads keys(2, 9, kKeyDim, 26);
  const RandomHeads values(2, 9, kValueDim, 27);
  KvCache cache(1, 2, kKeyDim, kValueDim, type_);
  cache.gather(0, keys.view(), values.view(), {{{4, 5}, {1}}});
  const auto refused = [&](const std::vector<float>& biases) {
    std::string bytes;
    ByteWriter out([&](std::string_view part) { bytes += part; });
    out.array(std::span(biases));
    out.array(std::span<const float>());
    ByteReader in("a file", bytes);
    KvCache copy = cache;
    return testing::refusal_if_any(ErrorCode::kInput, [&] { copy.load_biases(in); });
  };
  EXPECT_EQ(refused({}), "");
  EXPECT_EQ(refused({1, 2}), "");
  EXPECT_NE(refused({1}).find("do not fit"), std::string::npos);
  EXPECT_NE(refused({1, std::numeric_limits<float>::quiet_NaN()}).find("not finite"),
            std::string::npos);
  std::vector<float> numbers(18);
  EXPECT_NE(refusal(ErrorCode::kInvalidArgument,
                    [&] {
                      cache.gather(0, keys.view(), values.view(), {{{4, 5}, {1}}}, {}, false,
                                   {numbers.data(), 2, 8});
                    })
                .find("biases are [2, 8]"),
            std::string::npos);
}

TEST_P(KvCacheTest, RefusesWhatDoesNotFit) {
  const RandomHeads keys(2, 10, kKeyDim, 9);
  const RandomHeads values(2, 10, kValueDim, 10);
  const RandomHeads other_heads(1, 10, kKeyDim, 11);
  const RandomHeads fewer_values(2, 9, kValueDim, 12);
  const Selection fits{{{1}, {2}}};
  KvCache cache(2, 2, kKeyDim, kValueDim, type_);
  const auto gather = [&](const Heads<const float>& k, const Heads<const float>& v,
                          const Selection& selection) {
    return refusal(ErrorCode::kInvalidArgument, [&] { cache.gather(0, k, v, selection); });
  };
  cache.gather(0, keys.view(), values.view(), {{{3, 4}, {5}}});
  EXPECT_NE(gather(keys.view(), values.view(), {{{1}, {2, 10}}}).find("position 10 "),
            std::string::npos);
  EXPECT_NE(gather(keys.view(), values.view(), {{{-1}, {2}}}).find("position -1 "),
            std::string::npos);
  gather(keys.view(), values.view(), {});
  gather(keys.view(), values.view(), {{{1}, {2}, {3}}});
  gather(other_heads.view(), values.view(), fits);
  gather(Heads<const float>(), Heads<const float>(), fits);
  gather(values.view(), values.view(), fits);     // key dim
  gather(keys.view(), keys.view(), fits);         // value dim
  gather(keys.view(), other_heads.view(), fits);  // value heads
  gather(keys.view(), fewer_values.view(), {{{9}, {9}}});
  refusal(ErrorCode::kInvalidArgument,
          [&] { cache.gather(2, keys.view(), values.view(), fits); });  // layer
  refusal(ErrorCode::kInvalidArgument, [&] { cache.append(2, keys.token(0), values.token(0), 0); });
  refusal(ErrorCode::kInvalidArgument,
          [&] { cache.append(0, other_heads.token(0), values.token(0), 0); });
  refusal(ErrorCode::kInvalidArgument, [&] { cache.append(0, keys.token(0), keys.token(0), 0); });

  ASSERT_EQ(cache.heads(0).size(), 2U) << "a refused call must leave the cache as it was";
  EXPECT_EQ(cache.heads(0)[0].count, 2U);
  EXPECT_EQ(cache.positions(0, 1)[0], 5);
  EXPECT_EQ(Rows(cache, 0, 1, kKeyDim, kValueDim).key(0),
            rounded(keys.view().row(1, 5), kKeyDim, type_));
}

INSTANTIATE_TEST_SUITE_P(Types, KvCacheTest, ::testing::Values(KvType::kF16, KvType::kF32),
                         [](const auto& test) {
                           return test.param == KvType::kF16 ? "F16" : "F32";
                         });

template <class Action>
std::string overflow(const Action& action) {
  return testing::refusal_if_any(ErrorCode::kInput, action);
}

// A finite number must not become infinity: an infinite key may silently weigh nothing.
TEST(KvCacheTest, RefusesWhatHalvesCannotHold) {
  constexpr size_t kRows = 150;
  std::vector<int32_t> all(kRows);
  std::iota(all.begin(), all.end(), 0);
  for (const KvType type : {KvType::kF16, KvType::kQ8, KvType::kQ4, KvType::kF32}) {
    for (const bool in_key : {true, false}) {
      for (const size_t at : {0, 40, 149}) {  // a block, a block of the same head, a residual row
        for (const float x : {65519.0F, -65520.0F, 3e6F}) {
          SCOPED_TRACE(std::string(kv_type_name(type)) + ", " + std::to_string(x));
          RandomHeads keys(2, kRows, 20, 1);
          RandomHeads values(2, kRows, 12, 2);
          const auto& rows = in_key ? keys : values;
          const_cast<float*>(rows.view().row(1, at))[7] = x;
          const bool fits = type == KvType::kF32 || x == 65519.0F;

          KvCache gathered(1, 2, 20, 12, type);
          std::string answer = overflow([&] {
            gathered.gather(0, keys.view(), values.view(), {{all, all}});
          });
          KvCache appended(1, 2, 20, 12, type);
          const std::string appending = overflow([&] {
            for (size_t r = 0; r < kRows; ++r) {
              appended.append(0, keys.token(r), values.token(r), static_cast<int32_t>(r));
            }
          });
          EXPECT_EQ(answer.empty(), fits) << answer;
          EXPECT_EQ(appending.empty(), fits) << appending;
          for (const std::string& message : {answer, appending}) {
            if (fits) continue;
            EXPECT_NE(message.find("kv_type f32"), std::string::npos) << message;
            EXPECT_NE(message.find(in_key ? "a key of layer 0, KV head 1" : "a value of layer 0"),
                      std::string::npos)
                << message;
          }
          // Whoever goes on reads rows that are there.
          for (const CachedHead& head : appended.heads(0)) {
            EXPECT_EQ(head.count, fits ? kRows : at + 1);
          }

          // A row that is not kept harms nobody.
          std::vector<int32_t> others = all;
          others.erase(others.begin() + static_cast<ptrdiff_t>(at));
          EXPECT_EQ(overflow([&] {
                      gathered.gather(0, keys.view(), values.view(), {{all, others}});
                    }),
                    "");
        }
      }
    }
  }
}

// What float32 has no number for either is for attention to find: it comes from the model.
TEST(KvCacheTest, KeepsWhatIsNoNumber) {
  for (const float x :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    RandomHeads keys(1, 40, 20, 1);
    const RandomHeads values(1, 40, 12, 2);
    const_cast<float*>(keys.view().row(0, 3))[7] = x;
    std::vector<int32_t> all(40);
    std::iota(all.begin(), all.end(), 0);
    KvCache cache(1, 1, 20, 12);
    cache.gather(0, keys.view(), values.view(), {{all}});
    const Rows rows(cache, 0, 0, 20, 12);
    EXPECT_FALSE(std::isfinite(rows.key(3)[7]));
  }
}

}  // namespace
}  // namespace restkv
