#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "attention/attention_precision.h"
#include "attention/reference.h"
#include "base/threads.h"
#include "fmt/format.h"
#include "restkv/attention.h"
#include "restkv/error.h"
#include "support/simd.h"

namespace restkv {
namespace {

using testing::Expected;

/// One prompt, laid out as an engine has it (one row of [queries | keys | values] per token) or
/// head by head.
struct Prompt {
  size_t query_heads = 2, kv_heads = 1;
  size_t dim = 64, value_dim = 64;
  size_t n = 130;
  bool token_major = true;
  float query_factor = 1;
  std::vector<float> storage = {};

  [[nodiscard]] Heads<float> part(size_t before, size_t heads, size_t width) {
    const size_t row = query_heads * dim + kv_heads * (dim + value_dim);
    return token_major ? Heads<float>(storage.data() + before, heads, n, width, width, row)
                       : Heads<float>(storage.data() + before * n, heads, n, width);
  }
  Heads<float> queries() { return part(0, query_heads, dim); }
  Heads<float> keys() { return part(query_heads * dim, kv_heads, dim); }
  Heads<float> values() { return part((query_heads + kv_heads) * dim, kv_heads, value_dim); }

  void fill_randomly() {
    storage.resize(n * (query_heads * dim + kv_heads * (dim + value_dim)));
    std::mt19937 rng(static_cast<uint32_t>(n * 1000 + dim));
    std::normal_distribution<float> normal;
    std::generate(storage.begin(), storage.end(), [&] { return normal(rng); });
    for (size_t h = 0; h < query_heads; ++h) {
      for (size_t i = 0; i < n; ++i) {
        for (size_t c = 0; c < dim; ++c) queries().row(h, i)[c] *= query_factor;
      }
    }
  }
};

std::string describe(const Prompt& p, const AttentionOptions& o) {
  return "heads " + std::to_string(p.query_heads) + "/" + std::to_string(p.kv_heads) + ", dim " +
         std::to_string(p.dim) + ", value dim " + std::to_string(p.value_dim) + ", n " +
         std::to_string(p.n) + (p.token_major ? ", token-major" : "") + ", window " +
         std::to_string(o.sliding_window) + ", softcap " + std::to_string(o.softcap);
}

/// Output [query_head][position][value_dim] of the prompt given in `blocks` (the last one repeated
/// as often as needed). The output's rows have room between them, which must stay untouched.
std::vector<float> run(Prompt& p, AttentionOptions options, const std::vector<size_t>& blocks,
                       size_t block_end = 0) {
  constexpr float kUntouched = -12345.0F;
  const size_t stride = p.value_dim + 3;
  std::vector<float> out(p.query_heads * p.n * stride, kUntouched);
  const Heads<float> view(out.data(), p.query_heads, p.n, p.value_dim, p.n * stride, stride);
  size_t next = 0;
  for (size_t first = 0; first < p.n;) {
    const size_t rows = std::min(blocks[std::min(next++, blocks.size() - 1)], p.n - first);
    if (block_end > 0) options.keys_end = std::min((first / block_end + 1) * block_end, p.n);
    // Keys behind the block exist already in an engine's buffers, but must not be looked at.
    prefill_attention(p.queries().slice_rows(first, rows), p.keys(), p.values(), first, options,
                      view.slice_rows(first, rows));
    first += rows;
  }
  std::vector<float> packed;
  for (size_t i = 0; i < out.size(); i += stride) {
    packed.insert(packed.end(), out.begin() + static_cast<ptrdiff_t>(i),
                  out.begin() + static_cast<ptrdiff_t>(i + p.value_dim));
    for (size_t c = p.value_dim; c < stride; ++c) EXPECT_EQ(out[i + c], kUntouched);
  }
  return packed;
}

void compare(const Expected& expected, const std::vector<float>& actual, const std::string& what) {
  const size_t rows = expected.tolerances.size();
  ASSERT_EQ(actual.size(), rows * expected.cols) << what;
  double worst = 0;
  size_t worst_row = 0;
  for (size_t r = 0; r < rows; ++r) {
    const double error = testing::worst_error(expected, r, actual.data() + r * expected.cols);
    if (error > worst) worst = error, worst_row = r;
  }
  EXPECT_LE(worst, 1.0) << what << ": row " << worst_row << " is wrong by that many tolerances";
}

/// The instruction sets that may have a precision.
std::vector<int64_t> targets(AttentionPrecision precision) {
  return precision == AttentionPrecision::kInt8 ? testing::byte_targets() : testing::simd_targets();
}

/// Compares with float64 on every instruction set, in every precision that it has.
void check(Prompt p, AttentionOptions options = {}, const std::vector<size_t>& blocks = {512}) {
  if (p.storage.empty()) p.fill_randomly();
  for (const auto precision : testing::kAttentionPrecisions) {
    options.precision = precision;
    const Expected expected =
        testing::causal_attention(p.queries(), p.keys(), p.values(), 0, options);
    for (const int64_t target : targets(precision)) {
      const testing::ForcedSimdTarget forced(target);
      if (!supports(precision)) continue;
      compare(expected, run(p, options, blocks),
              fmt::format("{}, {}: {}", testing::simd_target_name(target),
                          attention_precision_name(precision), describe(p, options)));
    }
  }
}

TEST(PrefillAttention, HeadSizes) {
  for (const size_t dim : {32, 40, 48, 64, 72, 80, 96, 112, 128, 160, 192, 256}) {
    check({.dim = dim, .value_dim = dim});
  }
}

TEST(PrefillAttention, BiasesAreAddedToLogits) {
  for (const size_t n : {5, 64, 65, 200}) {
    std::mt19937 rng(static_cast<uint32_t>(n));
    std::normal_distribution<float> normal(0, 2);
    std::vector<float> biases(2 * (n + 3));
    for (float& x : biases) x = normal(rng);
    const Matrix<const float> bias(biases.data(), 2, n, n + 3);
    check({.query_heads = 6, .kv_heads = 2, .n = n}, {.bias = bias}, {50, 7});
    check({.query_heads = 4, .kv_heads = 2, .n = n, .query_factor = 5},
          {.softcap = 10, .bias = bias});
    check({.query_heads = 4, .kv_heads = 2, .n = n}, {.sliding_window = 40, .bias = bias});
  }
}

TEST(PrefillAttention, SinksTakeTheirPartOfTheWeights) {
  const std::vector<float> sinks{0.0F, 3.0F, -40.0F, 12.0F, 1.5F, -2.0F};
  for (const size_t n : {1, 5, 63, 64, 65, 200}) {
    check({.query_heads = 6, .kv_heads = 2, .n = n}, {.sink_logits = sinks}, {50, 7});
    check({.query_heads = 6, .kv_heads = 3, .n = n, .token_major = false},
          {.softcap = 10, .sink_logits = sinks});
    check({.query_heads = 6, .kv_heads = 2, .n = n}, {.sliding_window = 40, .sink_logits = sinks});
  }
  // Sinks that outweigh everything, and sinks that nobody sees.
  check({.n = 90}, {.sink_logits = std::vector<float>{1e4F, -1e4F}});
}

TEST(PrefillAttention, RefusesSinksThatDoNotFit) {
  Prompt p{.n = 10};
  p.fill_randomly();
  EXPECT_THROW(run(p, {.sink_logits = std::vector<float>(1)}, {10}), Error);
  EXPECT_THROW(run(p, {.sink_logits = std::vector<float>(3)}, {10}), Error);
}

TEST(PrefillAttention, RefusesBiasesThatDoNotFit) {
  Prompt p{.query_heads = 2, .kv_heads = 2, .n = 10};
  p.fill_randomly();
  const std::vector<float> biases(20);
  EXPECT_THROW(run(p, {.bias = {biases.data(), 1, 10}}, {10}), Error);
  EXPECT_THROW(run(p, {.bias = {biases.data(), 2, 9}}, {10}), Error);
}

TEST(PrefillAttention, ValuesOfAnotherSizeThanKeys) {
  check({.dim = 192, .value_dim = 128});
  check({.dim = 32, .value_dim = 40});
  check({.dim = 40, .value_dim = 32, .token_major = false});
  check({.dim = 33, .value_dim = 17, .n = 70});
  check({.dim = 1, .value_dim = 1, .n = 70});
}

TEST(PrefillAttention, Groups) {
  for (const size_t group : {1, 2, 3, 4, 5, 7, 8}) {
    check({.query_heads = 2 * group, .kv_heads = 2, .dim = 32, .value_dim = 32});
  }
  // A group beyond the rows of a query tile.
  check({.query_heads = 200, .dim = 8, .value_dim = 8, .n = 66});
}

TEST(PrefillAttention, Lengths) {
  for (const size_t n : {1, 2, 63, 64, 65, 127, 300, 777}) {
    check({.query_heads = 3, .dim = 48, .value_dim = 48, .n = n, .token_major = n % 2 == 0});
  }
}

TEST(PrefillAttention, BlocksAtOddPositions) {
  const Prompt prompt{.query_heads = 3, .dim = 32, .value_dim = 32, .n = 777};
  check(prompt, {}, {1, 5, 512});
  check(prompt, {.sliding_window = 100}, {5, 1, 512});
  check({.query_heads = 3, .dim = 32, .value_dim = 32, .n = 77}, {.sliding_window = 5}, {1});
}

TEST(PrefillAttention, SlidingWindows) {
  for (const size_t window : {1, 5, 63, 64, 65, 100, 299, 300, 5000}) {
    check({.dim = 32, .value_dim = 32, .n = 300}, {.sliding_window = window});
  }
}

TEST(PrefillAttention, SoftcapAndScale) {
  check({.query_factor = 10}, {.softcap = 20});
  check({.query_factor = 10}, {.softcap = 50, .sliding_window = 64});
  check({.query_factor = 1000}, {.softcap = 30});
  check({}, {.scale = 0.5F});
}

TEST(PrefillAttention, HugeLogits) {
  // q.k / sqrt(d) reaches about 4 standard deviations of 2500.
  check({.n = 300, .query_factor = 2500});
  check({.n = 300, .query_factor = 2500}, {.sliding_window = 64});
  // The largest logit comes last, first, or falls and rises by 1e4 from key to key.
  for (const int order : {0, 1, 2}) {
    Prompt p{.query_heads = 1, .dim = 32, .value_dim = 32, .n = 200};
    p.fill_randomly();
    for (size_t i = 0; i < p.n; ++i) {
      const auto step = static_cast<float>(order == 0 ? i : order == 1 ? p.n - i : i % 2 * p.n);
      std::fill_n(p.queries().row(0, i), p.dim, 1.0F);
      std::fill_n(p.keys().row(0, i), p.dim, (step / 100 - 1) * 10000.0F / 5.657F);
    }
    check(p);
    check(p, {.sliding_window = 65});
  }
}

TEST(PrefillAttention, NegativeZeros) {
  Prompt p{.n = 130};
  p.fill_randomly();
  for (size_t i = 0; i < p.n; ++i) {
    for (size_t h = 0; h < p.query_heads; ++h) std::fill_n(p.queries().row(h, i), p.dim, -0.0F);
    for (size_t c = 0; c < p.dim; c += 2) p.keys().row(0, i)[c] = -0.0F;
    p.values().row(0, i)[3] = -0.0F;
  }
  check(p);
  check(p, {.softcap = 20, .sliding_window = 5});
}

TEST(PrefillAttention, DoesNotLookAtLaterRows) {
  Prompt p{.n = 130};
  p.fill_randomly();
  const Prompt untouched = p;
  const size_t m = 67;
  for (size_t i = m; i < p.n; ++i) {
    std::fill_n(p.keys().row(0, i), p.dim, std::numeric_limits<float>::quiet_NaN());
    std::fill_n(p.values().row(0, i), p.value_dim, std::numeric_limits<float>::quiet_NaN());
  }
  for (const auto precision : testing::kAttentionPrecisions) {
    if (!supports(precision)) continue;
    Prompt shorter = untouched;
    shorter.n = m;  // token-major, so that the first rows are the same
    const auto expected = run(shorter, {.precision = precision}, {512});
    std::vector<float> out(p.query_heads * m * p.value_dim);
    prefill_attention(p.queries().slice_rows(0, m), p.keys(), p.values(), 0,
                      {.precision = precision}, {out.data(), p.query_heads, m, p.value_dim});
    EXPECT_EQ(out, expected);
  }
}

/// Tolerances allow for roundings that all point in one direction. They do not: together, errors
/// are far smaller.
TEST(PrefillAttention, RoundingsMostlyCancel) {
  for (const size_t dim : {64, 128}) {
    Prompt p{.query_heads = 4, .kv_heads = 2, .dim = dim, .value_dim = dim, .n = 777};
    p.fill_randomly();
    const Expected expected = testing::causal_attention(p.queries(), p.keys(), p.values(), 0, {});
    for (const auto precision : testing::kAttentionPrecisions) {
      for (const int64_t target : targets(precision)) {
        const testing::ForcedSimdTarget forced(target);
        if (!supports(precision)) continue;
        const auto actual = run(p, {.precision = precision}, {512});
        double error = 0;
        double square = 0;
        for (size_t i = 0; i < actual.size(); ++i) {
          error += (actual[i] - expected.values[i]) * (actual[i] - expected.values[i]);
          square += expected.values[i] * expected.values[i];
        }
        const double largest = precision == AttentionPrecision::kF32    ? 2e-6
                               : precision == AttentionPrecision::kBf16 ? 5e-3
                                                                        : 1.5e-2;
        EXPECT_LE(std::sqrt(error / square), largest)
            << testing::simd_target_name(target) << ", " << attention_precision_name(precision);
      }
    }
  }
}

TEST(PrefillAttention, PartsOfABlockChangeNoBit) {
  for (const size_t window : {size_t{0}, size_t{100}}) {
    for (const float query_factor : {1.0F, 20.0F}) {  // running maxima rise seldom and often
      Prompt p{.query_heads = 6, .kv_heads = 2, .n = 700, .query_factor = query_factor};
      p.fill_randomly();
      for (const auto precision : testing::kAttentionPrecisions) {
        const AttentionOptions options{.sliding_window = window, .precision = precision};
        for (const int64_t target : targets(precision)) {
          const testing::ForcedSimdTarget forced(target);
          if (!supports(precision)) continue;
          const std::vector<float> whole = run(p, options, {512});
          EXPECT_EQ(whole, run(p, options, {64, 128, 64, 256, 188}, 512)) << describe(p, options);
          EXPECT_EQ(whole, run(p, options, {1, 70, 441, 9, 179}, 512)) << describe(p, options);
        }
      }
    }
  }
}

TEST(PrefillAttention, ThreadsDoNotChangeABit) {
  const int before = num_threads();
  Prompt p{.query_heads = 6, .kv_heads = 2, .dim = 80, .value_dim = 80, .n = 300};
  p.fill_randomly();
  for (const auto precision : testing::kAttentionPrecisions) {
    if (!supports(precision)) continue;
    std::vector<std::vector<float>> results;
    for (const int threads : {1, 2, 3}) {
      set_num_threads(threads);
      results.push_back(run(p, {.sliding_window = 100, .precision = precision}, {5, 512}));
    }
    EXPECT_EQ(results[0], results[1]);
    EXPECT_EQ(results[0], results[2]);
  }
  set_num_threads(before);
}

TEST(AttentionPrecisions, AreFoundByName) {
  for (const auto precision : testing::kAttentionPrecisions) {
    EXPECT_EQ(find_attention_precision(attention_precision_name(precision)), precision);
  }
  EXPECT_EQ(find_attention_precision("auto"), supports(AttentionPrecision::kInt8)
                                                  ? AttentionPrecision::kInt8
                                                  : AttentionPrecision::kF32);
  try {
    find_attention_precision("fp8");
    FAIL();
  } catch (const Error& e) {
    EXPECT_EQ(e.code(), ErrorCode::kInvalidArgument);
    EXPECT_NE(std::string(e.what()).find("'fp8'"), std::string::npos);
  }
}

TEST(AttentionPrecisions, AreRefusedWhereTheProcessorLacksThem) {
  const auto targets = testing::simd_targets();
  const int64_t least = *std::ranges::max_element(targets);  // the best is the lowest bit
  const testing::ForcedSimdTarget forced(least);
  EXPECT_EQ(find_attention_precision("auto"), AttentionPrecision::kF32);
  Prompt p;
  p.fill_randomly();
  for (const auto precision : {AttentionPrecision::kBf16, AttentionPrecision::kInt8}) {
    ASSERT_FALSE(supports(precision)) << testing::simd_target_name(least);
    try {
      run(p, {.precision = precision}, {512});
      FAIL();
    } catch (const Error& e) {
      EXPECT_EQ(e.code(), ErrorCode::kUnsupported);
      EXPECT_NE(std::string(e.what()).find("use f32 or auto"), std::string::npos) << e.what();
    }
  }
}

TEST(PrefillAttention, RefusesShapesThatDoNotFit) {
  // The output has its own memory: tiles of it are written while other threads read the inputs.
  std::vector<float> inputs(4096);
  std::vector<float> outputs(4096);
  const auto heads = [&](size_t h, size_t rows, size_t dim) {
    return Heads<float>(inputs.data(), h, rows, dim);
  };
  const auto out = [&](size_t h, size_t rows, size_t dim) {
    return Heads<float>(outputs.data(), h, rows, dim);
  };
  const auto code = [&](Heads<float> q, Heads<float> k, Heads<float> v, size_t first,
                        Heads<float> result) {
    try {
      prefill_attention(q, k, v, first, {}, result);
    } catch (const Error& e) {
      EXPECT_NE(std::string(e.what()).find("prefill_attention"), std::string::npos) << e.what();
      return e.code() == ErrorCode::kInvalidArgument;
    }
    return false;
  };
  const auto q = heads(4, 3, 8);
  const auto k = heads(2, 5, 8);
  const auto fits = out(4, 3, 8);
  EXPECT_FALSE(code(q, k, k, 2, fits)) << "these shapes fit";
  EXPECT_TRUE(code(q, k, k, 3, fits)) << "too few keys";
  EXPECT_TRUE(code(q, heads(0, 5, 8), heads(0, 5, 8), 0, fits)) << "no KV heads";
  EXPECT_TRUE(code(q, heads(3, 5, 8), heads(3, 5, 8), 0, fits)) << "4 query heads over 3 KV heads";
  EXPECT_TRUE(code(q, heads(2, 5, 9), k, 0, fits)) << "key dim";
  EXPECT_TRUE(code(q, k, heads(1, 5, 8), 0, fits)) << "value heads";
  EXPECT_TRUE(code(q, k, heads(2, 4, 8), 2, fits)) << "too few values";
  EXPECT_TRUE(code(q, k, k, 0, out(3, 3, 8))) << "out heads";
  EXPECT_TRUE(code(q, k, k, 0, out(4, 2, 8))) << "out rows";
  EXPECT_TRUE(code(q, k, k, 0, out(4, 3, 7))) << "out dim";
  EXPECT_FALSE(code(heads(4, 0, 8), k, k, 0, out(4, 0, 8))) << "nothing to do is no error";
}

}  // namespace
}  // namespace restkv
