// CAKE: scores, preferences of layers and budgets, cascading or not; then single tokens, with the
// cache in the authors' order.

#include <gtest/gtest.h>

#include <algorithm>
#include <numeric>
#include <string>
#include <vector>

#include "compress/cake.h"
#include "compress/golden_baselines.h"
#include "compress/golden_compare.h"
#include "restkv/compress.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

using testing::GoldenCase;

using Positions = std::vector<int32_t>;

/// Kept positions of every layer's heads, from `<name>_len` and `<name>_flat`.
std::vector<Positions> ragged(const GoldenCase& golden, const std::string& name) {
  std::vector<Positions> lists;
  auto at = golden.ints(name + "_flat").begin();
  for (const int32_t length : golden.ints(name + "_len")) {
    lists.emplace_back(at, at + length);
    at += length;
  }
  return lists;
}

/// Past positions that each layer keeps. If budgets cascade, all layers so far are cut after every
/// layer, and one that was cut deeper stays so.
std::vector<size_t> budgets_of(const std::vector<double>& preferences, size_t total, size_t past,
                               bool cascading) {
  if (!cascading) return cake_budgets(preferences, total, past);
  std::vector<size_t> kept;
  for (size_t l = 0; l < preferences.size(); ++l) {
    kept.push_back(past);
    const auto so_far = cake_budgets(std::span(preferences).first(l + 1), total, past);
    for (size_t i = 0; i <= l; ++i) kept[i] = std::min(kept[i], so_far[i]);
  }
  return kept;
}

void compare_budgets(const GoldenCase& golden) {
  const Json& params = golden.params();
  const auto window = params.at("window").get<size_t>();
  const size_t share = params.at("capacity").get<size_t>() - window;
  const Matrix<const float> preferences = golden.matrix("layer_scores");
  auto expected = golden.ints("budgets").begin();
  for (size_t r = 0; r < preferences.rows; ++r) {
    const auto row = preferences.row_span(r);
    const std::vector<double> of_row(row.begin(), row.end());
    for (const size_t budget :
         cake_budgets(of_row, share * of_row.size(), params.at("n").get<size_t>() - window)) {
      EXPECT_EQ(budget, static_cast<size_t>(*expected++)) << "row " << r;
    }
  }
}

/// Rows [kv_heads, positions, d] of the prompt's keys and those of single tokens after it.
class Keys {
 public:
  Keys(const GoldenCase& golden, size_t layer)
      : prompt_(golden.heads("kl", layer)), steps_(golden.heads("kd", layer)) {}

  /// The keys of one head at these positions, in their order.
  [[nodiscard]] std::vector<float> gather(size_t head, const Positions& positions) const {
    std::vector<float> rows;
    for (const int32_t p : positions) {
      const auto position = static_cast<size_t>(p);
      const float* row = position < prompt_.rows ? prompt_.row(head, position)
                                                 : steps_.row(position - prompt_.rows, head);
      rows.insert(rows.end(), row, row + prompt_.dim);
    }
    return rows;
  }
  [[nodiscard]] size_t prompt() const { return prompt_.rows; }

 private:
  Heads<const float> prompt_;
  Heads<const float> steps_;  ///< [step, kv_head, d]
};

/// Keeps the `count` best rows in falling order of their scores, then the window.
Positions cut(const Positions& cache, std::span<const float> scores, size_t count) {
  LayerScores one(1, scores.size());
  std::ranges::copy(scores, one.values.begin());
  const std::vector<size_t> counts{count};
  Positions rows = select_best(one, counts, cache.size()).keep[0];
  std::stable_sort(rows.begin(), rows.begin() + static_cast<ptrdiff_t>(count),
                   [&](int32_t a, int32_t b) {
                     return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)];
                   });
  for (int32_t& row : rows) row = cache[static_cast<size_t>(row)];
  return rows;
}

/// Single tokens after the prompt: each is scored by its own attention and takes the place of one.
Positions decode(const GoldenCase& golden, size_t layer, size_t head, Positions cache,
                 size_t window, size_t budget) {
  const Keys keys(golden, layer);
  const Heads<const float> queries = golden.heads("qd", layer);  // [step, head, d]
  const size_t group = queries.rows / golden.heads("kl", layer).heads;
  for (size_t step = 0; step < queries.heads; ++step) {
    cache.push_back(static_cast<int32_t>(keys.prompt() + step));
    const std::vector<float> rows = keys.gather(head, cache);
    LayerObservation one;
    one.queries = {queries.row(step, head * group), group, 1, queries.dim};
    one.keys = one.values = {rows.data(), 1, cache.size(), queries.dim};
    WindowAttention attention;
    attention.observe(one, 0, 1);
    const size_t past = cache.size() - window;
    std::vector<float> pooled(group * past), scores(past);
    for (size_t g = 0; g < group; ++g) {
      smooth(attention.rows().row_span(g).first(past), Pooling::kAverage, {.kernel = 5},
             std::span(pooled).subspan(g * past, past));
    }
    reduce_group({pooled.data(), group, past}, GroupReduce::kMean, scores);
    cache = cut(cache, scores, budget);
  }
  std::ranges::sort(cache);
  return cache;
}

/// The allocation of the engine, one layer after another.
void compare_cascade(const GoldenCase& golden, CompressionOptions options, size_t layers) {
  options.allocation = "cake";
  options.budget = golden.params().at("capacity").get<int>();
  options.cake_tau1 = golden.params().at("tau1").get<double>();
  options.cake_tau2 = golden.params().at("tau2").get<double>();
  LayerCascade cascade(options);
  std::vector<std::vector<Positions>> kept;
  for (size_t l = 0; l < layers; ++l) {
    LayerObservation layer;
    layer.queries = golden.heads("ql", l);
    layer.keys = golden.heads("kl", l);
    layer.values = golden.heads("vl", l);
    layer.layer = l;
    layer.layers = layers;
    Positions all(layer.keys.rows);
    std::iota(all.begin(), all.end(), 0);
    kept.emplace_back(layer.keys.heads, all);
    const std::vector<Selection> cuts = cascade.add({&layer, 1});
    for (size_t earlier = 0; earlier <= l; ++earlier) {
      for (size_t h = 0; h < kept[earlier].size(); ++h) {
        Positions left;
        for (const int32_t row : cuts[earlier].keep[h]) {
          left.push_back(kept[earlier][h][static_cast<size_t>(row)]);
        }
        kept[earlier][h] = left;
      }
    }
  }
  std::vector<Positions> flat;
  for (const auto& layer : kept) flat.insert(flat.end(), layer.begin(), layer.end());
  EXPECT_EQ(flat, ragged(golden, "keep"));
}

}  // namespace

void run_cake(GoldenCase& golden) {
  if (golden.has("budgets")) return compare_budgets(golden);
  const Json& params = golden.params();
  const auto capacity = params.at("capacity").get<size_t>();
  const auto window = params.at("window").get<size_t>();
  CompressionOptions options = default_options("cake");
  options.window = static_cast<int>(window);
  options.own["gamma"] = params.at("gamma").get<double>();
  const size_t layers = golden.shape("ql")[0];
  const size_t n = golden.shape("kl")[2];
  std::vector<double> preferences;
  std::vector<LayerScores> scores;
  for (size_t l = 0; l < layers; ++l) {
    LayerObservation layer;
    layer.queries = golden.heads("ql", l);
    layer.keys = golden.heads("kl", l);
    layer.values = golden.has("vl") ? golden.heads("vl", l) : layer.keys;
    preferences.push_back(cake_preference({&layer, 1}, window, params.at("tau1").get<double>(),
                                          params.at("tau2").get<double>()));
    EXPECT_NEAR(preferences[l] / double{golden.floats("layer_score")[l]}, 1.0, 1e-4) << l;
    scores.push_back(score_tokens(layer, options));
    std::vector<std::vector<float>> rows;
    for (size_t h = 0; h < scores[l].heads; ++h) {
      const auto row = scores[l].rows().row_span(h);
      rows.emplace_back(row.begin(), row.end());
    }
    testing::expect_close(rows, golden.heads("scores").head(l));
  }

  if (params.at("cascading").get<bool>() && n > capacity + window) {
    compare_cascade(golden, options, layers);
  }
  const size_t past = n - window;
  const std::vector<size_t> budgets = n <= capacity + window
                                          ? std::vector<size_t>(layers, past)
                                          : budgets_of(preferences, (capacity - window) * layers,
                                                       past, params.at("cascading").get<bool>());
  const std::vector<Positions> kept = ragged(golden, "keep");
  Positions all(n);
  std::iota(all.begin(), all.end(), 0);
  size_t at = 0;
  for (size_t l = 0; l < layers; ++l) {
    EXPECT_EQ(budgets[l], static_cast<size_t>(golden.ints("layer_budgets")[l])) << "layer " << l;
    for (size_t h = 0; h < scores[l].heads; ++h, ++at) {
      const Positions cache = cut(all, scores[l].rows().row_span(h), budgets[l]);
      Positions ascending = cache;
      std::ranges::sort(ascending);
      EXPECT_EQ(ascending, kept[at]) << "layer " << l << ", head " << h;
      if (!golden.has("keep_final_flat")) continue;
      EXPECT_EQ(decode(golden, l, h, cache, window, budgets[l]), ragged(golden, "keep_final")[at])
          << "layer " << l << ", head " << h;
    }
  }
}

}  // namespace restkv
