// Merging of evicted values: a slow definition, what it leaves alone, and refusals.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "compress/reference.h"
#include "restkv/compress.h"
#include "restkv/compression_options.h"
#include "restkv/error.h"
#include "restkv/stages.h"
#include "support/refusal.h"

namespace restkv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::RandomLayer;

constexpr size_t kHeads = 2;
constexpr size_t kLength = 150;
constexpr size_t kDim = 24;

CompressionOptions merging(double threshold, double fraction) {
  CompressionOptions options = default_options("snapkv");
  options.window = 8;
  options.budget = 40;
  options.merge = true;
  options.merge_threshold = threshold;
  options.merge_fraction = fraction;
  return options;
}

double cosine(const float* a, const float* b) {
  double product = 0.0;
  double aa = 0.0;
  double bb = 0.0;
  for (size_t c = 0; c < kDim; ++c) {
    product += double{a[c]} * b[c];
    aa += double{a[c]} * a[c];
    bb += double{b[c]} * b[c];
  }
  return product / std::sqrt(aa * bb);
}

double norm(const float* a) {
  double square = 0.0;
  for (size_t c = 0; c < kDim; ++c) square += double{a[c]} * a[c];
  return std::sqrt(square);
}

TEST(MergingTest, EvictedValuesJoinTheMostSimilarKeys) {
  const RandomLayer layer(4, kHeads, kLength, kDim, 8, 32, 1);
  for (const double threshold : {-1.0, 0.2, 0.35, 1.0}) {
    for (const double fraction : {1.0, 0.3}) {
      const CompressionOptions options = merging(threshold, fraction);
      const Selection selection = select_tokens(layer.view, options);
      std::vector<float> storage = layer.v;
      const Heads<float> values(storage.data(), kHeads, kLength, kDim, kDim, kHeads * kDim);
      merge_evicted(layer.view.keys, values, selection, options);
      size_t merged = 0;
      size_t changed = 0;
      for (size_t h = 0; h < kHeads; ++h) {
        const auto& kept = selection.keep[h];
        std::vector<std::vector<double>> sums(kLength);
        std::vector<double> weights(kLength, 1.0);
        struct Best {
          size_t row, target;
          double similarity;
        };
        std::vector<Best> all;
        for (size_t e = 0; e < kLength; ++e) {
          if (std::ranges::binary_search(kept, static_cast<int32_t>(e))) continue;
          Best best{e, 0, -2.0};
          for (const int32_t k : kept) {
            const auto row = static_cast<size_t>(k);
            const double s = cosine(layer.view.keys.row(h, e), layer.view.keys.row(h, row));
            if (s > best.similarity) best = {e, row, s};
          }
          all.push_back(best);
        }
        // The most similar ones: a cut between two numbers of the 110.
        std::vector<double> ordered;
        for (const Best& best : all) ordered.push_back(best.similarity);
        std::ranges::sort(ordered);
        const double least = fraction == 1.0 ? -2.0 : ordered[ordered.size() - 33];
        for (const Best& best : all) {
          if (best.similarity < threshold || best.similarity < least) continue;
          ++merged;
          const float* value = layer.view.values.row(h, best.row);
          const float* target = layer.view.values.row(h, best.target);
          const double weight =
              std::max(0.0, best.similarity) * norm(value) / (norm(value) + norm(target) + 1e-6);
          auto& sum = sums[best.target];
          if (sum.empty()) sum.assign(target, target + kDim);
          for (size_t c = 0; c < kDim; ++c) sum[c] += weight * value[c];
          weights[best.target] += weight;
        }
        for (size_t row = 0; row < kLength; ++row) {
          if (!sums[row].empty()) ++changed;
          for (size_t c = 0; c < kDim; ++c) {
            const double expected =
                sums[row].empty() ? layer.view.values.row(h, row)[c] : sums[row][c] / weights[row];
            ASSERT_NEAR(values.row(h, row)[c], expected, 1e-5) << threshold << " " << row;
          }
        }
      }
      if (threshold == 1.0) {
        EXPECT_EQ(merged, 0U);
      } else if (threshold < 0) {
        EXPECT_EQ(merged, fraction == 1.0 ? 2 * 110U : 2 * 33U);
        EXPECT_GT(changed, 10U);
      }
    }
  }
}

TEST(MergingTest, WithoutEvictedOrKeptRowsNothingChanges) {
  const RandomLayer layer(2, 1, 10, kDim, 8, 32, 2);
  std::vector<float> storage = layer.v;
  const Heads<float> values(storage.data(), 1, 10, kDim);
  merge_evicted(layer.view.keys, values, {{{0, 1, 2, 3, 4, 5, 6, 7, 8, 9}}}, merging(0, 0.5));
  merge_evicted(layer.view.keys, values, {{{}}}, merging(0, 0.5));
  EXPECT_EQ(storage, layer.v);
}

TEST(MergingTest, RefusesByName) {
  const auto refused = [](auto change) {
    CompressionOptions options = merging(0, 1);
    change(options);
    return testing::refusal_if_any(ErrorCode::kInvalidArgument, [&] { validate(options); });
  };
  EXPECT_EQ(refused([](auto&) {}), "");
  EXPECT_THAT(refused([](auto& o) { o.merge_threshold = 1.5; }),
              HasSubstr("merge_threshold is 1.5"));
  EXPECT_THAT(refused([](auto& o) { o.merge_fraction = 0; }), HasSubstr("merge_fraction is 0"));
  EXPECT_THAT(refused([](auto& o) { o.merge_fraction = 2; }), HasSubstr("merge_fraction is 2"));
  EXPECT_THAT(refused([](auto& o) { o.per_query_head = true; }),
              AllOf(HasSubstr("merge"), HasSubstr("per_query_head")));
  EXPECT_THAT(refused([](auto& o) { o.allocation = "global"; }),
              AllOf(HasSubstr("merge"), HasSubstr("global")));
  // Without merging its options do not matter, and beside `full` neither does merging.
  EXPECT_EQ(refused([](auto& o) {
              o.merge = false;
              o.merge_fraction = 2;
            }),
            "");
  EXPECT_EQ(overridden_by(default_options("snapkv"), "merge_fraction"), "merge");

  const RandomLayer layer(2, 1, 10, kDim, 8, 32, 2);
  std::vector<float> storage = layer.v;
  const Heads<float> values(storage.data(), 1, 10, kDim);
  const auto wrong = [&](const Selection& selection) {
    return testing::refusal(ErrorCode::kInvalidArgument, [&] {
      merge_evicted(layer.view.keys, values, selection, merging(0, 1));
    });
  };
  EXPECT_THAT(wrong({{{0}, {1}}}), HasSubstr("2 heads"));
  EXPECT_THAT(wrong({{{3, 2}}}), HasSubstr("ascending"));
  EXPECT_THAT(wrong({{{3, 10}}}), HasSubstr("below 10"));
  EXPECT_THAT(wrong({{{-1, 2}}}), HasSubstr("ascending"));
}

}  // namespace
}  // namespace restkv
