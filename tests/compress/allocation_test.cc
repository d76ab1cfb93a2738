// Properties that hold for every method with every allocation, and the allocations' own.

#include "compress/allocation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <numeric>
#include <random>
#include <set>
#include <string>

#include "compress/reference.h"
#include "restkv/attention.h"
#include "restkv/compress.h"
#include "restkv/engine.h"
#include "restkv/error.h"
#include "restkv/query_statistics.h"
#include "restkv/stages.h"
#include "support/own_options.h"
#include "support/refusal.h"
#include "support/statistics.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::RandomLayer;
using testing::refusal_if_any;

class AllocationTest : public ::testing::Test {
 protected:
  std::string write_profile(const std::string& text) {
    const std::string path = folder_.file("profile.json");
    std::ofstream(path) << text;
    return path;
  }

  /// Every method that drops tokens with every allocation that suits it, plain and with
  /// CriticalKV's second stage. The profile is for `layers` layers.
  std::vector<CompressionOptions> combinations(int window, int budget, size_t layers) {
    std::string shares;
    for (size_t l = 0; l < layers; ++l) {
      if (l > 0) shares += ',';
      shares += std::to_string((l + 1) % 3);
    }
    const std::string profile = write_profile("{\"shares\": [" + shares + "]}");
    std::vector<CompressionOptions> all;
    for (const Method& method : methods()) {
      if (method.name == "full") continue;
      // A ladder needs layers to lean on, and a few tokens of every head for its rungs.
      if (method.name == "lacache" && (layers < 2 || budget < 16)) continue;
      for (const Allocation& allocation : allocations()) {
        for (const bool critical : {false, true}) {
          CompressionOptions options = method.defaults;
          options.allocation = allocation.name;
          options.window = window;
          // kvzap protects both.
          const int protected_last = method.name == "kvzap" ? window : 0;
          options.sinks = std::min(options.sinks, budget - 1 - protected_last);
          options.budget = budget;
          options.profile = profile;
          testing::set_if_own(options, "lag", 8);  // the prompts here are short
          testing::set_if_own(options, "recent", 0);
          // Whole chunks need not add up to the budget.
          if (method.name == "chunkkv") options.own["chunk_length"] = 1;
          options.statistics = statistics();
          options.critical = critical;
          const std::string answer = refusal_if_any([&] { validate(options); });
          const ScoreKind kind = method.score_kind;
          const bool shares_heads = options.allocation.starts_with("ada");
          const bool shares_layers = options.allocation == "global" || options.allocation == "cake";
          const bool too_narrow = options.allocation == "cake" && window < 2;
          const bool plain = options.allocation == "uniform" && !critical;
          const bool suits =
              plain || (method.allocates && method.name != "lacache" &&
                        !(critical && kind != ScoreKind::kMass) &&
                        !(shares_heads && kind == ScoreKind::kRank) &&
                        !(shares_layers && (kind == ScoreKind::kRank || critical)) && !too_narrow);
          if (suits) {
            EXPECT_EQ(answer, "") << describe(options);
            all.push_back(options);
          } else {
            EXPECT_THAT(answer, HasSubstr(options.method)) << describe(options);
          }
        }
      }
    }
    return all;
  }

  /// For every layer and head here.
  std::string statistics() {
    const std::string path = folder_.file("statistics.json");
    static const testing::StatisticsFile file = testing::StatisticsFile::of(8, 9, 16);
    if (!std::filesystem::exists(path)) file.write(path);
    return path;
  }

  static std::string describe(const CompressionOptions& options) {
    return options.method + " with " + options.allocation + (options.critical ? " critical" : "") +
           ", budget " + std::to_string(options.budget) + ", window " +
           std::to_string(options.window);
  }

  testing::TemporaryFolder folder_;
};

/// A random layer that offers all that `combinations` look at.
struct Layer : RandomLayer {
  Layer(size_t query_heads, size_t kv_heads, size_t length, size_t query_rows, uint32_t seed)
      : RandomLayer(query_heads, kv_heads, length, 32, query_rows, 48, seed) {
    view.output_weights = output_projection;
    const auto count = query_heads * length;
    sums.resize(count);
    for (size_t i = 0; i < count; ++i) sums[i] = static_cast<float>((i * 31 + seed) % 97) / 97.0F;
    view.attention_sums = {sums.data(), query_heads, length};
    view.watched = view.attention_sums;
    statistics = QueryStatistics(query_heads, 32);
    statistics.add(view.queries);
    rotation.cosine.assign(16, 0.6F);
    rotation.sine.assign(16, 0.3F);
    std::vector<size_t> positions = rotation_offsets(default_options("triattention"));
    for (size_t& position : positions) position += length;
    rotations = testing::rotations_of(16, 10000, positions);
    view.rotations = rotations;
  }
  /// After the layer has reached its place in memory.
  void attach() {
    view.output = &factor;
    view.query_statistics = &statistics;
    view.future_rotation = &rotation;
  }

  std::vector<float> sums;
  QueryStatistics statistics;
  MeanRotation rotation;
  std::vector<MeanRotation> rotations;
};

/// Whether a method looks at more than queries, keys, values and W_O.
bool observes_prompt(const CompressionOptions& options) {
  return needs_attention_sums(options) || needs_query_statistics(options) ||
         watched_tokens(options) != WatchedTokens::kNone;
}

/// Selections of the layers of a model, each or all at once.
std::vector<Selection> select_layers(const std::vector<LayerObservation>& layers,
                                     const CompressionOptions& options) {
  std::vector<Selection> kept;
  LayerCascade cascade(options);
  for (const LayerObservation& layer : layers) {
    if (!reallocates(options)) {
      kept.push_back(select_tokens(layer, options));
      continue;
    }
    const std::vector<Selection> cuts = cascade.add({&layer, 1});
    for (size_t l = 0; l < kept.size(); ++l) {
      for (size_t h = 0; h < kept[l].keep.size(); ++h) {
        std::vector<int32_t> left;
        for (const int32_t i : cuts[l].keep[h]) {
          left.push_back(kept[l].keep[h][static_cast<size_t>(i)]);
        }
        kept[l].keep[h] = left;
      }
    }
    kept.push_back(cuts.back());
  }
  return kept;
}

size_t total(const Selection& selection) {
  size_t sum = 0;
  for (const auto& keep : selection.keep) sum += keep.size();
  return sum;
}

TEST_F(AllocationTest, TotalsNeverExceedTheBudget) {
  std::mt19937 random(7);
  const auto between = [&](size_t low, size_t high) {
    return std::uniform_int_distribution<size_t>(low, high)(random);
  };
  for (int trial = 0; trial < 12; ++trial) {
    const size_t kv_heads = between(1, 3);
    const size_t query_heads = kv_heads * between(1, 3);
    const size_t length = between(20, 260);
    const size_t window = between(1, 11);
    const size_t layers = between(1, 7);
    const size_t budget = between(window + 1, length - 1);
    std::vector<Layer> stack;
    for (size_t l = 0; l < layers; ++l) {
      stack.emplace_back(query_heads, kv_heads, length, window,
                         static_cast<uint32_t>(100 * trial + l));
      stack[l].view.layer = l;
      stack[l].view.layers = layers;
    }
    for (Layer& layer : stack) layer.attach();
    for (CompressionOptions options :
         combinations(static_cast<int>(window), static_cast<int>(budget), layers)) {
      options.per_query_head = trial % 3 == 0;
      options.ada_floor = trial % 2 == 0 ? 0.2 : 0.0;
      SCOPED_TRACE(describe(options) + ", n " + std::to_string(length) + ", layers " +
                   std::to_string(layers));
      const size_t heads = options.per_query_head ? query_heads : kv_heads;
      size_t kept = 0;
      std::vector<LayerObservation> views;
      for (const Layer& layer : stack) views.push_back(layer.view);
      for (const Selection& selection : select_layers(views, options)) {
        ASSERT_EQ(selection.keep.size(), heads);
        for (const auto& keep : selection.keep) {
          ASSERT_TRUE(std::is_sorted(keep.begin(), keep.end(), std::less_equal<>()));
          if (keep.empty()) continue;
          ASSERT_GE(keep.front(), 0);
          ASSERT_LT(keep.back(), static_cast<int32_t>(length));
        }
        if (options.allocation == "ada") {
          ASSERT_EQ(total(selection), heads * budget);
        }
        kept += total(selection);
      }
      ASSERT_LE(kept, layers * heads * budget);
      // A layer that cake has cut gets nothing back when later layers want less.
      const bool whole_budget = options.allocation != "profile" && options.allocation != "cake";
      if (whole_budget && options.method != "lacache") {
        ASSERT_EQ(kept, layers * heads * budget);
      }
    }
  }
}

TEST_F(AllocationTest, ABudgetOfThePromptOrMoreKeepsEverything) {
  Layer layer(4, 2, 60, 9, 3);
  layer.attach();
  layer.view.layer = 1;
  layer.view.layers = 4;
  for (const int budget : {60, 61, 500}) {
    for (const auto& options : combinations(9, budget, 4)) {
      EXPECT_EQ(total(select_tokens(layer.view, options)), 2U * 60) << describe(options);
      // Layers of a profile may take less than others; one layer of several has no counts.
      if (options.allocation == "profile" || reallocates(options)) continue;
      SelectionTrace trace;  // forces scores at n == budget
      EXPECT_EQ(total(select_tokens(layer.view, options, &trace)), 2U * 60) << describe(options);
    }
  }
}

TEST_F(AllocationTest, EqualTokensGiveFiniteScoresAndFullBudgets) {
  Layer layer(4, 2, 90, 7, 4);
  layer.attach();
  layer.view.layers = 3;
  for (size_t i = 64; i < layer.k.size(); ++i) layer.k[i] = layer.k[i - 64];
  for (size_t i = 64; i < layer.v.size(); ++i) layer.v[i] = layer.v[i - 64];
  for (const auto& options : combinations(7, 30, 3)) {
    SCOPED_TRACE(describe(options));
    size_t kept = 0;
    if (reallocates(options)) {
      for (const Selection& selection : select_layers({3, layer.view}, options)) {
        kept += total(selection);
      }
    }
    for (size_t l = 0; l < 3 && !reallocates(options); ++l) {
      layer.view.layer = l;
      SelectionTrace trace;
      kept += total(select_tokens(layer.view, options, &trace));
      for (const auto& row : trace.scores) {
        for (const float x : row) ASSERT_FALSE(std::isnan(x));
      }
    }
    if (options.method == "lacache") {  // steps of a ladder need not add up to the budget
      EXPECT_LE(kept, 3U * 2 * 30);
    } else {
      EXPECT_EQ(kept, 3U * 2 * 30);
    }
  }
}

TEST_F(AllocationTest, RefusesWhatIsNotANumber) {
  for (const auto& options : combinations(7, 30, 1)) {
    const ScoreKind kind = find_method(options.method).score_kind;
    if (kind == ScoreKind::kRank || options.method == "random") continue;  // reads no numbers
    if (observes_prompt(options)) continue;  // its numbers come from elsewhere
    Layer layer(4, 2, 90, 7, 4);
    layer.k[(41 * 2 + 1) * 32 + 5] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_THAT(refusal_if_any([&] { select_tokens(layer.view, options); }),
                AllOf(HasSubstr("keys"), HasSubstr("head 1"), HasSubstr("position 41")))
        << describe(options);
  }
  Layer layer(4, 2, 90, 7, 4);
  layer.wo[5] = std::numeric_limits<float>::infinity();
  CompressionOptions options = default_options("snapkv");
  options.window = 7;
  options.budget = 30;
  options.critical = true;
  EXPECT_THAT(refusal_if_any([&] { select_tokens(layer.view, options); }), HasSubstr("overflow"));
  layer.view.output_weights = {};
  EXPECT_THAT(refusal_if_any([&] { select_tokens(layer.view, options); }),
              HasSubstr("output_weights"));
}

TEST_F(AllocationTest, PermutedHeadsGivePermutedSelections) {
  constexpr size_t kHeads = 3;
  constexpr size_t kGroup = 2;
  const size_t order[kHeads] = {2, 0, 1};
  const Layer layer(kHeads * kGroup, kHeads, 150, 8, 5);
  Layer turned(kHeads * kGroup, kHeads, 150, 8, 5);
  const auto permute = [&](const std::vector<float>& from, std::vector<float>& to, size_t block) {
    for (size_t row = 0; row < from.size() / (kHeads * block); ++row) {
      for (size_t h = 0; h < kHeads; ++h) {
        std::copy_n(&from[(row * kHeads + order[h]) * block], block,
                    &to[(row * kHeads + h) * block]);
      }
    }
  };
  permute(layer.q, turned.q, kGroup * 32);
  permute(layer.k, turned.k, 32);
  permute(layer.v, turned.v, 32);
  permute(layer.wo, turned.wo, kGroup * 32);
  turned.factor = OutputFactor(turned.output_projection, kHeads * kGroup, 32);
  for (auto options : combinations(8, 40, 1)) {
    // Of equal remainders the first head's wins; with fifths (a floor of 0.2) many are equal.
    options.ada_floor = 0.21;
    // Random numbers depend on the head's number on purpose.
    if (testing::has_own(options, "random_seed")) continue;
    if (find_method(options.method).needs_statistics) continue;  // as statistics do
    if (observes_prompt(options)) continue;  // what it observed has not been permuted
    // Its scores are ranks: heads tie, and the first one wins.
    const bool heads_compete = options.allocation.starts_with("ada") || reallocates(options);
    if (options.method == "lagkv" && heads_compete) continue;
    const auto expected = select_tokens(layer.view, options).keep;
    const auto actual = select_tokens(turned.view, options).keep;
    for (size_t h = 0; h < kHeads; ++h)
      EXPECT_EQ(actual[h], expected[order[h]]) << describe(options);
  }
}

TEST_F(AllocationTest, BalancedPyramidsFallAndKeepTheBudgetExactly) {
  for (const size_t length : {40UL, 100UL, 777UL, 6000UL}) {
    for (const size_t share : {1UL, 7UL, 32UL, 39UL, 64UL, 511UL, 4000UL}) {
      if (share > length) continue;
      for (const size_t layers : {1UL, 2UL, 5UL, 28UL, 32UL}) {
        for (const int beta : {1, 3, 20, 1000}) {
          CompressionOptions options;
          options.pyramid_beta = beta;
          LayerObservation layer;
          layer.keys.rows = length;
          layer.layers = layers;
          const LayerScores scores(1, length);
          size_t sum = 0;
          size_t before = length;
          for (layer.layer = 0; layer.layer < layers; ++layer.layer) {
            const size_t count =
                find_allocation("pyramid").allocate(layer, scores, share, options).at(0);
            EXPECT_LE(count, before);
            before = count;
            sum += count;
          }
          EXPECT_EQ(sum, layers * share) << length << " " << share << " " << layers << " " << beta;
        }
      }
    }
  }
}

TEST_F(AllocationTest, AdaGivesMoreToTheHeadThatNeedsMoreAndKeepsTheFloor) {
  // Head 0 attends evenly, head 1 to a single token: nearly all slots go to head 0.
  LayerScores scores(2, 100);
  std::fill_n(scores.values.begin(), 100, 1.0F);
  std::fill_n(scores.values.begin() + 100, 100, 1e-6F);
  scores.values[150] = 90.0F;
  LayerObservation layer;
  layer.keys.rows = 100;
  CompressionOptions options;
  options.ada_normalize = false;
  for (const AdaVariant variant :
       {AdaVariant::kBalanced, AdaVariant::kAuthors, AdaVariant::kKvpress}) {
    options.ada_variant = variant;
    options.ada_floor = 0.25;
    const auto counts = find_allocation("ada").allocate(layer, scores, 20, options);
    EXPECT_EQ(counts[0] + counts[1], 40U);
    EXPECT_GE(counts[1], 5U);
    EXPECT_LE(counts[1], 6U);
    options.ada_floor = 1.0;
    EXPECT_EQ(find_allocation("ada").allocate(layer, scores, 20, options),
              (std::vector<size_t>{20, 20}));
  }
}

TEST_F(AllocationTest, ApportionGivesTheRestToThoseThatLostMost) {
  const double shares[] = {1.5, 0.25, 2.0, 3.75, 0.5};
  EXPECT_EQ(apportion(shares, 8), (std::vector<size_t>{2, 0, 2, 4, 0}));
}

TEST_F(AllocationTest, ProfilesGiveEveryHeadItsOwnCount) {
  Layer layer(4, 2, 90, 7, 4);
  layer.view.layers = 3;
  CompressionOptions options = default_options("snapkv");
  options.allocation = "profile";
  options.window = 7;
  options.budget = 20;
  options.profile = write_profile(R"({"counts": [[30, 7], 20, [8, 35]]})");
  const std::vector<std::vector<size_t>> expected = {{30, 7}, {20, 20}, {8, 35}};
  for (size_t l = 0; l < 3; ++l) {
    layer.view.layer = l;
    const Selection selection = select_tokens(layer.view, options);
    for (size_t h = 0; h < 2; ++h) EXPECT_EQ(selection.keep[h].size(), expected[l][h]);
  }
  options.profile = write_profile(R"({"shares": [[3, 1], 1, [0.5, 0.5]]})");
  layer.view.layer = 0;
  const Selection selection = select_tokens(layer.view, options);
  EXPECT_EQ(selection.keep[0].size(), 7U + 33);  // 3/7 of 6 * 13 = 33.4
  EXPECT_EQ(selection.keep[1].size(), 7U + 11);
}

TEST_F(AllocationTest, RefusesProfilesThatDoNotFit) {
  Layer layer(4, 2, 90, 7, 4);
  layer.view.layers = 2;
  CompressionOptions options = default_options("snapkv");
  options.allocation = "profile";
  options.window = 7;
  options.budget = 20;
  const auto refused = [&](const std::string& text) {
    options.profile = write_profile(text);
    return refusal_if_any([&] { select_tokens(layer.view, options); });
  };
  EXPECT_EQ(refused(R"({"counts": [20, [10, 30]]})"), "");
  EXPECT_THAT(refused("{\n\"counts\": ]"), HasSubstr("profile.json:2: parse error"));
  const std::string deep = std::string(100000, '[') + "20" + std::string(100000, ']');
  EXPECT_THAT(refused("{\"counts\": [" + deep + "]}"), HasSubstr("more than 64 levels"));
  EXPECT_THAT(refused("[1, 2]"), HasSubstr(R"({"counts": [...]})"));
  EXPECT_THAT(refused(R"({"counts": [1], "shares": [1]})"), HasSubstr("expected"));
  EXPECT_THAT(refused(R"({"counts": [20, 20, 20]})"), HasSubstr("3 layers, but the model has 2"));
  EXPECT_THAT(refused(R"({"counts": [20, [1, 2, 3]]})"), HasSubstr("3 heads"));
  EXPECT_THAT(refused(R"({"counts": [20, []]})"), HasSubstr("layer 1 has no heads"));
  EXPECT_THAT(refused(R"({"counts": [20, [20, 20.5]]})"), HasSubstr("20.5"));
  EXPECT_THAT(refused(R"({"counts": [20, "all"]})"), HasSubstr("\"all\""));
  EXPECT_THAT(refused(R"({"shares": [1, -1]})"), HasSubstr("-1"));
  EXPECT_THAT(refused(R"({"shares": [0, [0, 0]]})"), HasSubstr("all shares are 0"));
  EXPECT_THAT(refused(R"({"counts": [20, 22]})"),
              AllOf(HasSubstr("84 tokens"), HasSubstr("raise the budget to 21")));
  EXPECT_THAT(refused(R"({"counts": [20, 6]})"), HasSubstr("always kept"));
  options.profile = folder_.file("absent.json");
  EXPECT_THAT(refusal_if_any([&] { validate(options); }),
              HasSubstr("cannot read " + options.profile));
  options.profile = "";
  EXPECT_THAT(refusal_if_any([&] { validate(options); }), HasSubstr("path"));
}

TEST_F(AllocationTest, RefusesOptionsByName) {
  const auto refused = [](std::string_view method, const char* allocation, auto change) {
    CompressionOptions options = default_options(method);
    options.allocation = allocation;
    change(options);
    return refusal_if_any([&] { validate(options); });
  };
  const auto same = [](CompressionOptions&) {};
  EXPECT_THAT(refused("restkv", "adda", same), AllOf(HasSubstr("adda"), HasSubstr("ada-pyramid")));
  EXPECT_THAT(refused("restkv", "pyramid", [](auto& o) { o.pyramid_beta = 0; }),
              HasSubstr("pyramid_beta is 0"));
  EXPECT_THAT(refused("restkv", "ada-pyramid", [](auto& o) { o.pyramid_beta = 0; }),
              HasSubstr("pyramid_beta is 0"));
  EXPECT_THAT(refused("snapkv", "ada", [](auto& o) { o.ada_floor = 1.5; }),
              HasSubstr("ada_floor is 1.5"));
  EXPECT_THAT(refused("streaming-llm", "ada", same), HasSubstr("between heads"));
  EXPECT_THAT(refused("knorm", "ada", [](auto& o) { o.ada_normalize = true; }),
              HasSubstr("ada_normalize"));
  EXPECT_THAT(refused("knorm", "uniform", [](auto& o) { o.critical = true; }), HasSubstr("knorm"));
  EXPECT_THAT(refused("snapkv", "uniform",
                      [](auto& o) {
                        o.critical = true;
                        o.critical_ratio = 2;
                      }),
              HasSubstr("critical_ratio is 2"));
  EXPECT_THAT(refused("snapkv", "uniform",
                      [](auto& o) {
                        o.critical = true;
                        o.critical_epsilon = -1;
                      }),
              HasSubstr("critical_epsilon is -1"));
  EXPECT_THAT(refused("knorm", "uniform", [](auto& o) { o.own["skip_layers"] = -1; }),
              HasSubstr("skip_layers is -1"));
  EXPECT_THAT(refused("knorm", "uniform", [](auto& o) { o.budget = 0; }), HasSubstr("budget is 0"));
  EXPECT_EQ(refused("full", "uniform", [](auto& o) { o.critical = true; }), "");
  EXPECT_THROW(kvpress_budget(100, 1.0), Error);
}

TEST_F(AllocationTest, RandomTokensDependOnSeedLayerAndHeadAlone) {
  Layer layer(2, 2, 400, 8, 1);
  CompressionOptions options = default_options("random");
  options.window = 8;
  options.budget = 100;
  std::set<std::vector<int32_t>> seen;
  std::vector<size_t> halves(2);
  for (const int seed : {0, 1, -1}) {
    options.own["random_seed"] = seed;
    for (layer.view.layer = 0; layer.view.layer < 5; ++layer.view.layer) {
      const Selection selection = select_tokens(layer.view, options);
      EXPECT_EQ(select_tokens(layer.view, options).keep, selection.keep);
      for (const auto& keep : selection.keep) {
        seen.insert(keep);
        for (const int32_t n : keep) ++halves[n < 196 ? 0 : 1];
      }
    }
  }
  EXPECT_EQ(seen.size(), 3U * 5 * 2);
  // 30 x 92 random tokens of 392: each half gets 1380 on average, standard deviation 23.
  EXPECT_NEAR(static_cast<double>(halves[0]), 1380, 120);
}

TEST_F(AllocationTest, HeadsWithoutTokensAttendToNothing) {
  constexpr size_t kLength = 50;
  Layer layer(2, 2, kLength, 8, 1);
  CompressionOptions options = default_options("knorm");
  options.allocation = "profile";
  options.budget = 10;
  options.profile = write_profile(R"({"counts": [[0, 20]]})");
  const Selection selection = select_tokens(layer.view, options);
  ASSERT_EQ(selection.keep[0].size(), 0U);
  ASSERT_EQ(selection.keep[1].size(), 20U);
  KvCache cache(1, 2, 32, 32, KvType::kF32);
  cache.gather(0, layer.view.keys, layer.view.values, selection);
  EXPECT_EQ(cache.kept_bytes(), 20U * 64 * sizeof(float));
  std::vector<float> out(2 * 32, -1.0F);
  decode_attention({layer.q.data(), 2, 32}, cache.heads(0), {}, {out.data(), 2, 32});
  EXPECT_TRUE(std::all_of(out.begin(), out.begin() + 32, [](float x) { return x == 0.0F; }));
  EXPECT_FALSE(std::all_of(out.begin() + 32, out.end(), [](float x) { return x == 0.0F; }));
}

TEST_F(AllocationTest, EnginesDecodeFromRaggedCaches) {
  testing::TinyModel tiny;
  tiny.write(folder_.file("tiny.gguf"));
  const Model model(folder_.file("tiny.gguf"));
  const ModelConfig& c = model.config();
  std::string rows;
  for (size_t l = 0; l < c.layers; ++l) {
    rows += l == 0 ? "[" : ",[";
    for (size_t h = 0; h < c.kv_heads; ++h) rows += (h == 0 ? "0" : ",64");
    rows += "]";
  }
  std::vector<CacheRequest> requests;
  for (const char* allocation : {"profile", "pyramid", "ada", "ada-pyramid"}) {
    for (const char* method : {"knorm", "snapkv", "restkv"}) {
      if (std::string(allocation) == "profile" && std::string(method) != "knorm") continue;
      CacheRequest& request = requests.emplace_back();
      request.options = default_options(method);
      request.options.allocation = allocation;
      request.options.budget = 64;
      request.options.ada_floor = 0.0;
      request.options.critical = std::string(method) == "snapkv";
      request.options.profile = write_profile("{\"counts\": [" + rows + "]}");
    }
  }
  std::vector<int32_t> prompt(300);
  for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = static_cast<int32_t>((i * 97 + 31) % 256);
  Engine engine(model);
  (void)engine.prefill(prompt, requests);
  for (CacheRequest& request : requests) {
    SCOPED_TRACE(describe(request.options));
    size_t kept = 0;
    for (size_t l = 0; l < c.layers; ++l) {
      for (size_t h = 0; h < c.kv_heads; ++h) kept += request.cache.positions(l, h).size();
    }
    EXPECT_LE(kept, c.layers * c.kv_heads * 64);
    for (int step = 0; step < 3; ++step) {
      for (const float x : engine.decode(7, request.cache)) ASSERT_TRUE(std::isfinite(x));
    }
  }
  EXPECT_EQ(requests[0].cache.positions(0, 0).size(), 3U);  // the decoded tokens alone
}

}  // namespace
}  // namespace restkv
