// Heads of a stream's layer that hold different numbers of tokens, down to none: every method with
// every allocation keeps its promises.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <deque>
#include <numeric>
#include <random>
#include <string>
#include <vector>

#include "compress/top_positions.h"
#include "restkv/compress.h"
#include "restkv/error.h"
#include "restkv/stages.h"
#include "support/own_options.h"
#include "support/statistics.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

constexpr size_t kDim = 16;
constexpr size_t kWidth = 24;
constexpr size_t kHeads = 3;  // KV heads, with two query heads each
constexpr int kWindow = 7;

/// A layer of a stream: what each of its heads holds, and what is remembered of its queries.
class RaggedLayer {
 public:
  RaggedLayer(const std::vector<size_t>& rows, uint32_t seed) : rng_(seed) {
    random(wo_, kWidth * 2 * kHeads * kDim);
    factor_ = OutputFactor({wo_.data(), kWidth, 2 * kHeads * kDim}, 2 * kHeads, kDim);
    random(queries_, 2 * kHeads * kWindow * kDim);
    const Heads<const float> queries(queries_.data(), 2 * kHeads, kWindow, kDim);
    statistics_ = QueryStatistics(2 * kHeads, kDim);
    statistics_.add(queries);
    rotation_.cosine.assign(kDim / 2, 0.6F);
    rotation_.sine.assign(kDim / 2, 0.3F);
    for (size_t h = 0; h < rows.size(); ++h) {
      const size_t n = rows[h];
      LayerObservation& head = heads_.emplace_back();
      head.queries = queries.slice_heads(2 * h, 2);
      head.keys = {random(storage_.emplace_back(), n * kDim), 1, n, kDim};
      head.unrotated_keys = head.keys;
      head.values = {random(storage_.emplace_back(), n * kDim), 1, n, kDim};
      float* sums = random(storage_.emplace_back(), 2 * n);
      for (size_t i = 0; i < 2 * n; ++i) sums[i] = std::abs(sums[i]);
      head.attention_sums = {sums, 2, n};
      head.watched = head.attention_sums;
      head.output_weights = {wo_.data() + 2 * h * kDim, kWidth, 2 * kDim, 2 * kHeads * kDim};
      head.first_query_head = 2 * h;
      head.rotations = rotations_;
    }
  }
  /// As layer `layer` of `layers`, of a stream that holds `tokens` per head.
  std::vector<LayerObservation>& observe(size_t layer, size_t layers, size_t tokens) {
    for (LayerObservation& head : heads_) {
      head.output = &factor_;
      head.query_statistics = &statistics_;
      head.future_rotation = &rotation_;
      head.layer = layer;
      head.layers = layers;
      head.tokens = tokens;
    }
    return heads_;
  }

 private:
  float* random(std::vector<float>& to, size_t count) {
    std::normal_distribution<float> normal;
    to.resize(count + 1);  // an empty head has an address, too
    std::generate(to.begin(), to.end(), [&] { return normal(rng_); });
    return to.data();
  }

  std::mt19937 rng_;
  std::vector<float> wo_, queries_;
  std::deque<std::vector<float>> storage_;
  OutputFactor factor_;
  QueryStatistics statistics_;
  MeanRotation rotation_;
  std::vector<MeanRotation> rotations_ =
      testing::rotations_of(kDim / 2, 10000, rotation_offsets(default_options("triattention")));
  std::vector<LayerObservation> heads_;
};

/// Every method with every allocation, variant and second stage that suit it.
std::vector<CompressionOptions> combinations(int budget, size_t layers, const std::string& profile,
                                             const std::string& statistics) {
  std::vector<CompressionOptions> all;
  const auto add = [&](CompressionOptions options) {
    try {
      validate(options, {.layers = layers, .kv_heads = kHeads, .query_heads = 2 * kHeads});
      all.push_back(options);
    } catch (const Error&) {
    }
  };
  for (const Method& method : methods()) {
    for (const Allocation& allocation : allocations()) {
      CompressionOptions options = method.defaults;
      options.allocation = allocation.name;
      options.budget = budget;
      options.window = kWindow;
      testing::set_if_own(options, "lag", 5);
      if (method.name == "chunkkv") options.own["chunk_length"] = 5;
      testing::set_if_own(options, "future", 8);
      options.profile = profile;
      options.statistics = statistics;
      add(options);
      options.critical = true;
      add(options);
      options.critical = false;
      options.per_query_head = true;
      add(options);
      options.per_query_head = false;
      for (const auto variant :
           {PyramidVariant::kAuthors, PyramidVariant::kRestkv, PyramidVariant::kKvpress}) {
        options.pyramid_variant = variant;
        if (allocation.name.find("pyramid") != std::string_view::npos) add(options);
      }
      options.pyramid_variant = PyramidVariant::kBalanced;
      for (const auto variant : {AdaVariant::kAuthors, AdaVariant::kKvpress}) {
        options.ada_variant = variant;
        if (allocation.name.starts_with("ada")) add(options);
      }
      options.ada_variant = AdaVariant::kBalanced;
      if (method.name == "knorm") {
        options.own["skip_layers"] = 1;
        add(options);
        options.own["skip_layers"] = 0;
      }
      if (method.name == "finch") {
        options.own["chunk_length"] = 9;
        add(options);
        options.own["chunk_length"] = 0;
      }
      if (method.name == "chunkkv") {
        for (const char* inner : {"restkv", "keydiff", "knorm"}) {
          options.own["chunk_score"] = inner;
          add(options);
        }
      }
      if (method.name == "cur" || method.name == "keydiff") {
        options.block_size = 9;
        add(options);
        options.block_size = 0;
      }
      if (method.name != "restkv") continue;
      options.kernel = 5;  // whose window drifts
      add(options);
      options.own["order"] = "before";
      add(options);
    }
  }
  return all;
}

TEST(RaggedTest, EveryMethodAndAllocationCutsWhatDeeperCutsHaveLeft) {
  constexpr size_t kLayers = 4;
  testing::TemporaryFolder folder;
  const std::string profile = folder.file("profile.json");
  std::FILE* file = std::fopen(profile.c_str(), "w");
  std::fputs(R"({"shares": [3, [1, 0, 2], 1, 1]})", file);
  std::fclose(file);
  const std::string statistics = folder.file("statistics.json");
  testing::StatisticsFile::of(kLayers, 2 * kHeads, kDim / 2).write(statistics);

  size_t cuts = 0;
  uint32_t seed = 0;
  for (const std::vector<size_t>& rows : std::vector<std::vector<size_t>>{{0, 0, 0},
                                                                          {1, 1, 1},
                                                                          {0, 3, 60},
                                                                          {7, 7, 7},
                                                                          {8, 6, 31},
                                                                          {40, 40, 40},
                                                                          {12, 90, 33},
                                                                          {25, 26, 200}}) {
    RaggedLayer layer(rows, ++seed);
    for (const int budget : {8, 33, 64}) {
      for (const CompressionOptions& options : combinations(budget, kLayers, profile, statistics)) {
        const bool pass_budget = options.pyramid_variant != PyramidVariant::kBalanced ||
                                 options.ada_variant != AdaVariant::kBalanced;
        for (const size_t index : {0, 1, 3}) {
          SCOPED_TRACE(options.method + ", " + options.allocation + ", budget " +
                       std::to_string(budget) + ", layer " + std::to_string(index) + ", rows " +
                       std::to_string(rows[0]) + " " + std::to_string(rows[1]) + " " +
                       std::to_string(rows[2]) + (options.critical ? ", critical" : ""));
          MethodState state;
          auto& heads = layer.observe(index, kLayers, static_cast<size_t>(budget) + 5);
          for (LayerObservation& head : heads) head.state = &state;
          const Selection selection = reallocates(options)
                                          ? LayerCascade(options).add(heads).front()
                                          : select_ragged(heads, options);
          const size_t repeat = options.per_query_head ? 2 : 1;
          ASSERT_EQ(selection.keep.size(), kHeads * repeat);
          size_t kept = 0;
          for (size_t h = 0; h < selection.keep.size(); ++h) {
            const std::vector<int32_t>& keep = selection.keep[h];
            const size_t there = rows[h / repeat];
            ASSERT_TRUE(std::is_sorted(keep.begin(), keep.end(), std::less_equal<>()));
            ASSERT_LE(keep.size(), there);
            if (!keep.empty()) {
              ASSERT_GE(keep.front(), 0);
              ASSERT_LT(static_cast<size_t>(keep.back()), there);
            }
            kept += keep.size();
            ++cuts;
            // A head that holds no more than it may under `uniform` loses nothing.
            if (options.allocation == "uniform" && options.method != "lacache" &&
                there <= static_cast<size_t>(budget)) {
              EXPECT_EQ(keep.size(), there);
            }
          }
          const bool over_layers = options.allocation.find("pyramid") != std::string::npos ||
                                   reallocates(options) || options.allocation == "profile";
          const bool whole = options.method == "full" || index < testing::skipped_layers(options);
          if (!over_layers && !pass_budget && !whole) {
            EXPECT_LE(kept, kHeads * repeat * static_cast<size_t>(budget));
          }
        }
      }
    }
  }
  EXPECT_GT(cuts, 10000U);
}

// The same for whoever calls the stages one by one with a prompt shorter than the budget.
TEST(RaggedTest, ShortPromptsHaveScores) {
  RaggedLayer layer({3, 8, 30}, 9);
  for (const CompressionOptions& options : combinations(64, 4, "", "")) {
    for (const LayerObservation& head : layer.observe(1, 4, 0)) {
      SCOPED_TRACE(options.method + ", " + options.allocation + ", " +
                   std::to_string(head.keys.rows) + " rows");
      const LayerScores scores = score_tokens(head, options);
      ASSERT_LE(scores.candidates, head.keys.rows);
      if (reallocates(options)) continue;  // one layer of several has no counts
      const auto counts = allocate_budget(head, scores, options);
      for (const size_t count : counts) EXPECT_LE(count, scores.candidates);
      const Selection selection = select_best(scores, counts, head.keys.rows);
      EXPECT_EQ(selection.keep.size(), scores.heads);
    }
  }
}

TEST(RaggedTest, ThereAreNoMoreLargestThanThereAre) {
  TopPositions top;
  std::vector<float> values(20);
  std::iota(values.begin(), values.end(), 0.0F);
  EXPECT_EQ(top.find(values, 20).size(), 20U);
  EXPECT_EQ(top.sum(values, 20), 190);
  EXPECT_THROW((void)top.find(values, 21), Error);
  EXPECT_THROW((void)top.sum(values, 21), Error);
  EXPECT_THROW((void)top.find({}, 1), Error);
  EXPECT_EQ(top.find({}, 0).size(), 0U);
}

}  // namespace
}  // namespace restkv
