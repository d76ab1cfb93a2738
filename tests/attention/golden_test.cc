// Compares attention with golden vectors of the reference implementations (RESTKV_GOLDEN_DIR
// chooses another set than tests/data/golden).

#include "support/golden.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <string>
#include <vector>

#include "attention/reference.h"
#include "restkv/attention.h"
#include "restkv/compress.h"
#include "restkv/kv_cache.h"
#include "support/simd.h"

namespace restkv {
namespace {

using testing::Expected;
using testing::GoldenCase;

constexpr KvType kTypes[] = {KvType::kF16, KvType::kF32, KvType::kQ8, KvType::kQ4};
constexpr double kTolerance = 1e-5;  // that the golden set asks for

AttentionOptions options_of(const GoldenCase& golden) {
  return {.softcap = golden.params().value("softcap", 0.0F),
          .sliding_window = golden.params().value("sliding_window", size_t{0})};
}

void expect_near(Matrix<const float> actual, Matrix<const float> expected,
                 const std::vector<double>& tolerances) {
  for (size_t r = 0; r < expected.rows; ++r) {
    double worst = 0;
    for (size_t c = 0; c < expected.cols; ++c) {
      const double error = std::abs(actual.row(r)[c] - static_cast<double>(expected.row(r)[c]));
      worst = std::isnan(error) ? error : std::max(worst, error);
    }
    EXPECT_LE(worst, tolerances[r]) << "row " << r;
  }
}

void run_prefill(const GoldenCase& golden) {
  const auto q = golden.heads("q");
  const auto k = golden.heads("k");
  const auto expected = golden.heads("out");
  std::vector<float> out(q.heads * q.rows * expected.dim);
  prefill_attention(q, k, golden.heads("v"), k.rows - q.rows, options_of(golden),
                    {out.data(), q.heads, q.rows, expected.dim});
  const size_t rows = q.heads * q.rows;
  expect_near({out.data(), rows, expected.dim}, {expected.data, rows, expected.dim},
              std::vector<double>(rows, kTolerance));
}

/// The last query attends to what the cache holds after `selection` of the first `prompt` positions
/// was kept and the others appended.
void run_decode(const GoldenCase& golden, size_t prompt, const Selection& selection, KvType type) {
  const auto q = golden.heads("q");
  const auto k = golden.heads("k");
  const auto v = golden.heads("v");
  KvCache cache(1, k.heads, k.dim, v.dim, type);
  cache.gather(0, k.slice_rows(0, prompt), v.slice_rows(0, prompt), selection);
  for (size_t i = prompt; i < k.rows; ++i) {
    cache.append(0, {k.row(0, i), k.heads, k.dim, k.head_stride},
                 {v.row(0, i), v.heads, v.dim, v.head_stride}, static_cast<int32_t>(i));
  }
  std::vector<float> last_query;
  for (size_t h = 0; h < q.heads; ++h) {
    last_query.insert(last_query.end(), q.row(h, q.rows - 1), q.row(h, q.rows - 1) + q.dim);
  }
  AttentionOptions options = options_of(golden);
  options.sliding_window = 0;  // the caller has dropped what it hides
  std::vector<float> out(q.heads * v.dim);
  decode_attention({last_query.data(), q.heads, q.dim}, cache.heads(0), options,
                   {out.data(), q.heads, v.dim});

  // Against float64 on the numbers that the cache holds; and against the reference, which read
  // floats. Rounding k to half moves a logit by up to `shift` = scale sum |q| |k - half(k)|, which
  // changes a weight by a factor within e^(+-2 shift) and the output by as much of the largest
  // value; rounding v adds its own error. (A float cache, or inputs that are small integers times
  // a power of two, lose nothing: then the tolerance is that of the set. Quantised types are off by
  // more, but by no more than this.)
  Expected expected;
  std::vector<double> tolerances;
  const double scale = 1.0 / std::sqrt(static_cast<double>(k.dim));
  for (size_t h = 0; h < q.heads; ++h) {
    const size_t cache_head = h * cache.heads(0).size() / q.heads;
    const size_t kv_head = h * k.heads / q.heads;
    const CachedHead& head = cache.heads(0)[cache_head];
    std::vector<float> keys(head.count * k.dim), values(head.count * v.dim);
    cache.read(0, cache_head, {keys.data(), head.count, k.dim}, {values.data(), head.count, v.dim});
    expect_attention(&last_query[h * q.dim], {keys.data(), head.count, k.dim},
                     {values.data(), head.count, v.dim}, options, expected);
    double shift = 0;
    double value_error = 0;
    double largest_value = 0;
    for (size_t i = 0; i < head.count; ++i) {
      const auto position = static_cast<size_t>(cache.positions(0, cache_head)[i]);
      double moved = 0;
      for (size_t c = 0; c < k.dim; ++c) {
        const double error = keys[i * k.dim + c] - k.row(kv_head, position)[c];
        moved += std::abs(error * last_query[h * q.dim + c]);
      }
      shift = std::max(shift, scale * moved);
      for (size_t c = 0; c < v.dim; ++c) {
        const float exact = v.row(kv_head, position)[c];
        value_error = std::max(value_error, std::abs(0.0 + values[i * v.dim + c] - exact));
        largest_value = std::max(largest_value, std::abs(0.0 + exact));
      }
    }
    tolerances.push_back(kTolerance + std::expm1(2 * shift) * largest_value + value_error);
    for (size_t c = 0; c < v.dim; ++c) {
      EXPECT_NEAR(out[h * v.dim + c], expected.row(h)[c], kTolerance) << "head " << h;
    }
  }
  const auto golden_out = golden.heads("out");
  expect_near({out.data(), q.heads, v.dim}, {golden_out.data, q.heads, v.dim}, tolerances);
}

/// Everything the last position sees, as a selection of the whole prompt.
Selection visible_to_last(const GoldenCase& golden) {
  const auto k = golden.heads("k");
  const size_t window = options_of(golden).sliding_window;
  std::vector<int32_t> positions(window > 0 ? std::min(window, k.rows) : k.rows);
  std::iota(positions.begin(), positions.end(), static_cast<int32_t>(k.rows - positions.size()));
  return {std::vector(k.heads, positions)};
}

/// The selection of a case whose prompt is compressed before its last token attends.
Selection evicted(const GoldenCase& golden) {
  const auto& evict = golden.params().at("evict");
  const auto& params = evict.at("params");
  const auto method = evict.at("runner").get<std::string>();
  CompressionOptions options = default_options(method);
  options.budget = params.at("capacity").get<int>();
  options.window = params.at("window").get<int>();
  options.kernel = params.at("kernel").get<int>();
  options.per_query_head = params.at("granularity") == "query_head";
  const auto q = golden.heads("q");
  const size_t prompt = golden.heads("k").rows - 1;
  LayerObservation layer;
  layer.queries = q.slice_rows(0, q.rows - 1);
  layer.keys = golden.heads("k").slice_rows(0, prompt);
  layer.values = golden.heads("v").slice_rows(0, prompt);
  OutputFactor factor;
  if (needs_output_factor(options)) {
    factor = OutputFactor(golden.matrix("wo"), q.heads, q.dim);
    layer.output = &factor;
  }
  Selection selection = select_tokens(layer, options);
  const auto& keep = golden.ints("keep");
  const size_t kept = golden.shape("keep").at(1);
  EXPECT_EQ(selection.keep.size(), golden.shape("keep").at(0));
  for (size_t h = 0; h < selection.keep.size(); ++h) {
    const auto begin = keep.begin() + static_cast<ptrdiff_t>(h * kept);
    EXPECT_EQ(selection.keep[h], std::vector<int32_t>(begin, begin + static_cast<ptrdiff_t>(kept)))
        << "kept positions of head " << h;
  }
  return selection;
}

class GoldenAttention : public ::testing::TestWithParam<int64_t> {};

TEST_P(GoldenAttention, MatchesTheReferences) {
  const testing::ForcedSimdTarget forced(GetParam());
  testing::GoldenTally tally;
  for (GoldenCase& golden : testing::golden_cases()) {
    if (golden.family() != "attention") continue;
    const bool compresses = golden.method() == "attention_compressed";
    if (!compresses && golden.method() != "attention") {
      tally.left_out(golden, "method " + golden.method());
      continue;
    }
    SCOPED_TRACE(golden.name());
    golden.load();
    const size_t n = golden.heads("k").rows;
    if (compresses) {
      const Selection selection = evicted(golden);
      for (const KvType type : kTypes) run_decode(golden, n - 1, selection, type);
      tally.compared("attention over kept tokens");
    } else if (golden.params().value("last_row_only", false)) {
      for (const KvType type : kTypes) run_decode(golden, n, visible_to_last(golden), type);
      tally.compared("decode attention");
    } else {
      run_prefill(golden);
      tally.compared("prompt attention");
    }
  }
  tally.finish();
}

INSTANTIATE_TEST_SUITE_P(Simd, GoldenAttention, ::testing::ValuesIn(testing::simd_targets()),
                         [](const auto& test) { return testing::simd_target_name(test.param); });

}  // namespace
}  // namespace restkv
