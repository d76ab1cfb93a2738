// Block-sparse attention against plain loops over the keys that a mask leaves.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "attention/attention_precision.h"
#include "attention/reference.h"
#include "base/threads.h"
#include "restkv/attention.h"
#include "restkv/error.h"
#include "support/simd.h"

namespace restkv {
namespace {

/// A block of queries behind `first` older rows, and a mask for it.
struct Case {
  size_t heads = 4, kv_heads = 2, dim = 64, value_dim = 64;
  size_t first = 0, rows = 200;
  double density = 0.4;
  uint32_t seed = 1;
  AttentionOptions options = {};

  std::vector<float> q = {}, k = {}, v = {};
  std::vector<uint8_t> kept = {};

  Case& fill() {
    std::mt19937 rng(seed);
    std::normal_distribution<float> normal;
    q.resize(heads * rows * dim);
    k.resize(kv_heads * seen() * dim);
    v.resize(kv_heads * seen() * value_dim);
    for (auto* x : {&q, &k, &v}) std::generate(x->begin(), x->end(), [&] { return normal(rng); });
    kept.resize(heads * blocks() * tiles());
    std::bernoulli_distribution keep(density);
    std::generate(kept.begin(), kept.end(), [&] { return keep(rng) ? 1 : 0; });
    return *this;
  }
  [[nodiscard]] size_t seen() const { return first + rows; }
  [[nodiscard]] size_t blocks() const { return (rows + kMaskTile - 1) / kMaskTile; }
  [[nodiscard]] size_t tiles() const { return (seen() + kMaskTile - 1) / kMaskTile; }
  [[nodiscard]] Heads<const float> queries() const { return {q.data(), heads, rows, dim}; }
  [[nodiscard]] Heads<const float> keys() const { return {k.data(), kv_heads, seen(), dim}; }
  [[nodiscard]] Heads<const float> values() const {
    return {v.data(), kv_heads, seen(), value_dim};
  }
  [[nodiscard]] TileMask mask() const { return {kept.data(), heads, blocks(), tiles()}; }

  /// Whether row i of head h meets key j.
  [[nodiscard]] bool visible(size_t h, size_t i, size_t j) const {
    const size_t position = first + i;
    if (j > position) return false;
    if (options.sliding_window > 0 && j + options.sliding_window <= position) return false;
    const size_t block = i / kMaskTile;
    const bool own = j / kMaskTile >= (first + block * kMaskTile) / kMaskTile;
    return own || mask().row(h, block)[j / kMaskTile] != 0;
  }
  [[nodiscard]] std::string describe() const {
    return "heads " + std::to_string(heads) + "/" + std::to_string(kv_heads) + ", dim " +
           std::to_string(dim) + ", " + std::to_string(rows) + " rows from " +
           std::to_string(first) + ", seed " + std::to_string(seed);
  }
};

struct Outputs {
  std::vector<float> out, lse, sums;
};

Outputs run(const Case& c, const TileMask& mask) {
  Outputs result{std::vector<float>(c.heads * c.rows * c.value_dim),
                 std::vector<float>(c.heads * c.rows), std::vector<float>(c.heads * c.seen())};
  const Matrix<float> lse(result.lse.data(), c.heads, c.rows);
  prefill_attention(c.queries(), c.keys(), c.values(), c.first, c.options,
                    {result.out.data(), c.heads, c.rows, c.value_dim}, lse, mask);
  attention_sums(c.queries(), c.keys(), c.first, c.options, lse,
                 {result.sums.data(), c.heads, c.seen()}, mask);
  return result;
}

void compare_with_plain_loops(Case c, AttentionPrecision precision) {
  c.options.precision = precision;
  testing::Expected expected;
  std::vector<double> sums(c.heads * c.seen(), 0.0);
  const double scale = 1 / std::sqrt(static_cast<double>(c.dim));
  const size_t group = c.heads / c.kv_heads;
  for (size_t h = 0; h < c.heads; ++h) {
    for (size_t i = 0; i < c.rows; ++i) {
      std::vector<float> keys, values;
      std::vector<size_t> positions;
      std::vector<double> weights;
      double total = 0;
      for (size_t j = 0; j < c.seen(); ++j) {
        if (!c.visible(h, i, j)) continue;
        const float* key = c.keys().row(h / group, j);
        const float* value = c.values().row(h / group, j);
        keys.insert(keys.end(), key, key + c.dim);
        values.insert(values.end(), value, value + c.value_dim);
        double z = 0;
        for (size_t x = 0; x < c.dim; ++x) z += double{c.queries().row(h, i)[x]} * key[x];
        z *= scale;
        if (c.options.softcap > 0) z = c.options.softcap * std::tanh(z / c.options.softcap);
        positions.push_back(j);
        weights.push_back(std::exp(z));
        total += weights.back();
      }
      testing::expect_attention(c.queries().row(h, i), {keys.data(), positions.size(), c.dim},
                                {values.data(), positions.size(), c.value_dim}, c.options,
                                expected);
      for (size_t x = 0; x < positions.size(); ++x) {
        sums[h * c.seen() + positions[x]] += weights[x] / total;
      }
    }
  }
  // Sums are made of float32 logits, but of the denominators that attention found.
  const double sum_error = precision == AttentionPrecision::kInt8   ? 5e-2
                           : precision == AttentionPrecision::kBf16 ? 1e-2
                                                                    : 2e-5;
  for (const int64_t target : testing::simd_targets()) {
    const testing::ForcedSimdTarget forced(target);
    if (!supports(precision)) continue;
    SCOPED_TRACE(testing::simd_target_name(target) + ": " + c.describe());
    const Outputs actual = run(c, c.mask());
    for (size_t r = 0; r < c.heads * c.rows; ++r) {
      ASSERT_LE(testing::worst_error(expected, r, actual.out.data() + r * c.value_dim), 1.0)
          << "row " << r;
    }
    for (size_t x = 0; x < sums.size(); ++x) {
      ASSERT_NEAR(actual.sums[x], sums[x], sum_error * sums[x] + 1e-6) << "sum " << x;
    }
  }
}

void compare_with_plain_loops(const Case& c) {
  for (const auto precision : testing::kAttentionPrecisions) compare_with_plain_loops(c, precision);
}

TEST(MaskedAttention, EqualsPlainLoopsOverTheKeptKeys) {
  compare_with_plain_loops(Case{.heads = 9, .kv_heads = 3}.fill());
  compare_with_plain_loops(Case{.dim = 128, .value_dim = 128, .first = 77, .rows = 130}.fill());
  compare_with_plain_loops(Case{.dim = 256, .value_dim = 256, .rows = 100, .density = 0}.fill());
}

TEST(MaskedAttention, AnyShape) {
  std::mt19937 rng(20240);
  const auto draw = [&](size_t low, size_t high) {
    return std::uniform_int_distribution<size_t>(low, high)(rng);
  };
  constexpr size_t kDims[] = {16, 33, 64, 80};
  for (uint32_t seed = 0; seed < 12; ++seed) {
    Case c;
    c.seed = seed;
    c.kv_heads = draw(1, 2);
    c.heads = c.kv_heads * draw(1, 5);
    c.dim = kDims[draw(0, 3)];
    c.value_dim = kDims[draw(0, 3)];
    c.first = draw(0, 300);
    c.rows = draw(1, 150);
    c.density = 0.25 * static_cast<double>(draw(0, 3));
    if (draw(0, 3) == 0) c.options.sliding_window = draw(1, 200);
    if (draw(0, 3) == 0) c.options.softcap = 3;
    compare_with_plain_loops(c.fill());
  }
}

TEST(MaskedAttention, AFullMaskChangesNoBit) {
  for (const size_t group : {1, 3, 8}) {
    for (const size_t first : {0, 101}) {
      Case c{.heads = 2 * group, .dim = 64, .first = first, .rows = 203, .density = 1};
      c.seed = static_cast<uint32_t>(group * 1000 + first);
      c.fill();
      for (const int64_t target : testing::simd_targets()) {
        const testing::ForcedSimdTarget forced(target);
        for (const auto precision : testing::kAttentionPrecisions) {
          if (!supports(precision)) continue;
          c.options.precision = precision;
          const Outputs dense = run(c, {});
          const Outputs masked = run(c, c.mask());
          EXPECT_EQ(dense.out, masked.out) << c.describe();
          EXPECT_EQ(dense.lse, masked.lse) << c.describe();
          EXPECT_EQ(dense.sums, masked.sums) << c.describe();
        }
      }
    }
  }
}

TEST(MaskedAttention, ThreadsDoNotChangeABit) {
  const int before = num_threads();
  const Case c = Case{.heads = 6, .first = 30, .rows = 300}.fill();
  set_num_threads(1);
  const Outputs one = run(c, c.mask());
  set_num_threads(3);
  const Outputs three = run(c, c.mask());
  set_num_threads(before);
  EXPECT_EQ(one.out, three.out);
  EXPECT_EQ(one.sums, three.sums);
}

TEST(MaskedAttention, RefusesMasksThatDoNotFit) {
  Case c = Case{}.fill();
  const auto refused = [&](const TileMask& mask) {
    try {
      run(c, mask);
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("mask"), std::string::npos) << e.what();
      return e.code() == ErrorCode::kInvalidArgument;
    }
    return false;
  };
  EXPECT_FALSE(refused(c.mask()));
  EXPECT_TRUE(refused(c.mask().slice_heads(0, 2))) << "heads";
  EXPECT_TRUE(refused(c.mask().slice_rows(0, c.blocks() - 1))) << "blocks";
  EXPECT_TRUE(refused({c.kept.data(), c.heads, c.blocks(), c.tiles() - 1})) << "tiles";
  c.options.causal = false;
  EXPECT_TRUE(refused(c.mask())) << "not causal";
}

}  // namespace
}  // namespace restkv
