#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "base/threads.h"
#include "restkv/attention.h"
#include "restkv/error.h"
#include "support/simd.h"

namespace restkv {
namespace {

/// A random prompt as an engine has it: one row of [queries | keys | values] per token.
struct Prompt {
  Prompt(size_t query_heads, size_t kv_heads, size_t length, size_t head_dim)
      : heads(query_heads), groups(kv_heads), n(length), dim(head_dim) {
    storage.resize(n * (heads + 2 * groups) * dim);
    std::mt19937 rng(static_cast<uint32_t>(n * 1000 + dim));
    std::normal_distribution<float> normal;
    std::generate(storage.begin(), storage.end(), [&] { return 1.5F * normal(rng); });
  }
  [[nodiscard]] Heads<const float> part(size_t before, size_t count) const {
    return {storage.data() + before * dim, count, n, dim, dim, (heads + 2 * groups) * dim};
  }
  [[nodiscard]] Heads<const float> queries() const { return part(0, heads); }
  [[nodiscard]] Heads<const float> keys() const { return part(heads, groups); }
  [[nodiscard]] Heads<const float> values() const { return part(heads + groups, groups); }

  size_t heads, groups, n, dim;
  std::vector<float> storage;
};

struct Result {
  std::vector<double> lse;   // [head][row]
  std::vector<double> sums;  // [head][position]
};

/// The n x n matrix in float64.
Result reference(const Prompt& p, const AttentionOptions& options) {
  Result result{std::vector<double>(p.heads * p.n), std::vector<double>(p.heads * p.n, 0.0)};
  for (size_t h = 0; h < p.heads; ++h) {
    for (size_t i = 0; i < p.n; ++i) {
      std::vector<double> logits(p.n, -INFINITY);
      double sum = options.sink_logits.empty() ? 0 : std::exp(double{options.sink_logits[h]});
      for (size_t j = 0; j < p.n; ++j) {
        if (options.causal && j > i) continue;
        if (options.causal && options.sliding_window > 0 && j + options.sliding_window <= i) {
          continue;
        }
        double z = 0;
        for (size_t c = 0; c < p.dim; ++c) {
          z += double{p.queries().row(h, i)[c]} * p.keys().row(h * p.groups / p.heads, j)[c];
        }
        z *= options.scale > 0 ? double{options.scale} : 1 / std::sqrt(double(p.dim));
        if (options.softcap > 0) z = options.softcap * std::tanh(z / options.softcap);
        if (options.bias.data != nullptr) z += options.bias.row(h * p.groups / p.heads)[j];
        logits[j] = z;
        sum += std::exp(z);
      }
      result.lse[h * p.n + i] = std::log(sum);
      for (size_t j = 0; j < p.n; ++j) result.sums[h * p.n + j] += std::exp(logits[j]) / sum;
    }
  }
  return result;
}

struct Computed {
  std::vector<float> lse, sums;
};

Computed run(const Prompt& p, const AttentionOptions& options, size_t block) {
  Computed result{std::vector<float>(p.heads * p.n), std::vector<float>(p.heads * p.n, 0.0F)};
  std::vector<float> out(p.heads * block * p.dim);
  for (size_t first = 0; first < p.n; first += block) {
    const size_t rows = std::min(block, p.n - first);
    const Matrix<float> lse(result.lse.data() + first, p.heads, rows, p.n);
    const auto queries = p.queries().slice_rows(first, rows);
    prefill_attention(queries, p.keys(), p.values(), first, options,
                      {out.data(), p.heads, rows, p.dim}, lse);
    attention_sums(queries, p.keys(), first, options, lse, {result.sums.data(), p.heads, p.n});
  }
  return result;
}

void check(const Prompt& p, const AttentionOptions& options, size_t block) {
  const Result expected = reference(p, options);
  for (const int64_t target : testing::simd_targets()) {
    const testing::ForcedSimdTarget forced(target);
    SCOPED_TRACE(testing::simd_target_name(target) + ", n " + std::to_string(p.n) + ", dim " +
                 std::to_string(p.dim) + ", blocks of " + std::to_string(block));
    const Computed actual = run(p, options, block);
    for (size_t x = 0; x < actual.sums.size(); ++x) {
      // Errors of the logits: see tests/attention/reference.h.
      ASSERT_NEAR(actual.lse[x], expected.lse[x], 1e-5) << x;
      ASSERT_NEAR(actual.sums[x], expected.sums[x], 2e-5 * expected.sums[x] + 1e-7) << x;
    }
  }
}

TEST(AttentionSums, EqualTheColumnSumsOfTheMatrix) {
  for (const size_t n : {1, 5, 63, 64, 65, 131, 300}) check({4, 2, n, 32}, {}, 512);
  for (const size_t dim : {33, 64, 80, 128}) check({3, 1, 140, dim}, {}, 64);
}

TEST(AttentionSums, BlocksOfAnySizeAddUp) {
  for (const size_t block : {1, 7, 64, 100}) check({4, 2, 200, 32}, {}, block);
}

TEST(AttentionSums, OptionsOfTheLogits) {
  check({4, 2, 200, 32}, {.scale = 0.3F}, 64);
  check({4, 2, 200, 32}, {.softcap = 2.0F}, 64);
  for (const size_t window : {1, 10, 64, 70, 150, 1000}) {
    check({2, 1, 200, 32}, {.sliding_window = window}, 48);
  }
}

TEST(AttentionSums, LeaveOutWhatSinksGet) {
  const std::vector<float> sinks{2, -1, 5, 0};
  check({4, 2, 200, 32}, {.sink_logits = sinks}, 64);
  check({4, 2, 131, 32}, {.softcap = 2.0F, .causal = false, .sink_logits = sinks}, 512);
}

TEST(AttentionSums, BiasesOfTheLogits) {
  std::mt19937 rng(3);
  std::normal_distribution<float> normal(0, 2);
  std::vector<float> biases(2 * 200);
  for (float& x : biases) x = normal(rng);
  const Matrix<const float> bias(biases.data(), 2, 200);
  check({4, 2, 200, 32}, {.bias = bias}, 64);
  check({4, 2, 131, 32}, {.softcap = 2.0F, .causal = false, .bias = bias}, 512);
  const Prompt p(4, 2, 10, 32);
  std::vector<float> numbers(40);
  const Matrix<float> fits(numbers.data(), 4, 10);
  EXPECT_THROW(attention_sums(p.queries(), p.keys(), 0, {.bias = bias.slice(0, 1)}, fits, fits),
               Error);
}

TEST(AttentionSums, WithoutCausalityEveryRowSeesEveryKey) {
  check({4, 2, 200, 32}, {.causal = false}, 48);
  check({2, 2, 65, 40}, {.sliding_window = 5, .causal = false}, 512);
}

TEST(AttentionSums, DoNotDependOnThreads) {
  const Prompt p(4, 2, 333, 64);
  const int threads = num_threads();
  set_num_threads(1);
  const Computed expected = run(p, {}, 128);
  for (const int count : {2, 3, 5}) {
    set_num_threads(count);
    const Computed actual = run(p, {}, 128);
    EXPECT_EQ(actual.sums, expected.sums);
    EXPECT_EQ(actual.lse, expected.lse);
  }
  set_num_threads(threads);
}

TEST(AttentionSums, RefusesShapesThatDoNotFit) {
  const Prompt p(4, 2, 10, 32);
  std::vector<float> numbers(40);
  const Matrix<float> fits(numbers.data(), 4, 10);
  const Matrix<float> small(numbers.data(), 4, 9);
  EXPECT_THROW(attention_sums(p.queries(), p.keys(), 0, {}, small, fits), Error);
  EXPECT_THROW(attention_sums(p.queries(), p.keys(), 0, {}, fits, small), Error);
  EXPECT_THROW(attention_sums(p.queries(), p.keys(), 1, {}, fits, fits), Error);
  std::vector<float> out(4 * 10 * 32);
  EXPECT_THROW(
      prefill_attention(p.queries(), p.keys(), p.values(), 0, {}, {out.data(), 4, 10, 32}, small),
      Error);
}

}  // namespace
}  // namespace restkv
