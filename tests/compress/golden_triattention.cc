// TriAttention: scores of every query head, and the three ways in which the authors select by them.
// The engine has the one that treats every KV head of every layer by itself.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>
#include <string>
#include <vector>

#include "compress/golden_baselines.h"
#include "compress/golden_compare.h"
#include "restkv/compress.h"
#include "restkv/stages.h"
#include "support/golden.h"
#include "support/statistics.h"
#include "support/tiny_model.h"

namespace restkv {
namespace {

using testing::GoldenCase;

/// Brings a row to mean 0 and deviation 1.
void standardize(std::vector<double>& row) {
  double mean = 0.0;
  for (const double x : row) mean += x / double(row.size());
  double variance = 0.0;
  for (const double x : row) variance += (x - mean) * (x - mean) / double(row.size());
  for (double& x : row) x = (x - mean) / std::max(std::sqrt(variance), 1e-6);
}

/// Positions of the `count` largest, ascending.
std::vector<int32_t> best(const std::vector<double>& row, size_t count) {
  LayerScores scores(1, row.size());
  std::transform(row.begin(), row.end(), scores.values.begin(),
                 [](double x) { return static_cast<float>(x); });
  const std::vector<size_t> counts{count};
  return select_best(scores, counts, row.size()).keep[0];
}

/// `union`: the best of every head stand for a second selection by the largest score of any head.
std::vector<int32_t> best_of_union(const std::vector<std::vector<double>>& heads, size_t count) {
  std::set<int32_t> chosen;
  std::vector<double> largest = heads.front();
  for (const std::vector<double>& head : heads) {
    for (const int32_t j : best(head, count)) chosen.insert(j);
    for (size_t j = 0; j < largest.size(); ++j) largest[j] = std::max(largest[j], head[j]);
  }
  const std::vector<int32_t> all(chosen.begin(), chosen.end());
  EXPECT_GE(all.size(), count);
  std::vector<double> of_chosen;
  for (const int32_t j : all) of_chosen.push_back(largest[static_cast<size_t>(j)]);
  std::vector<int32_t> kept;
  for (const int32_t i : best(of_chosen, count)) kept.push_back(all[static_cast<size_t>(i)]);
  return kept;
}

CompressionOptions options_of(const Json& params, const std::string& statistics) {
  CompressionOptions options = default_options("triattention");
  options.statistics = statistics;
  options.budget = params.at("budget").get<int>();
  options.window = 0;
  options.sinks = params.at("prefix_length").get<int>();
  options.own["standardize"] = params.at("normalize").get<bool>();
  options.own["over_offsets"] = params.at("aggregation").text();
  options.own["offset_max"] = params.at("offset_max_length").get<int>();
  options.own["mlr"] = !params.value("disable_mlr", false);
  if (params.value("layer_perhead_aggregation", "max") == "mean") {
    options.group_reduce = GroupReduce::kMean;
  }
  return options;
}

}  // namespace

void run_triattention(GoldenCase& golden) {
  const Json& params = golden.params();
  const std::vector<size_t>& shape = golden.shape("q_mean_real");  // [layer, head, pair]
  const testing::TemporaryFolder folder;
  const std::string file = folder.file("statistics.json");
  testing::StatisticsFile{.layers = shape[0],
                          .heads = shape[1],
                          .pairs = shape[2],
                          .real = golden.floats("q_mean_real"),
                          .imaginary = golden.floats("q_mean_imag"),
                          .magnitude = golden.floats("q_abs_mean")}
      .write(file);
  const CompressionOptions options = options_of(params, file);
  const auto prefix = static_cast<size_t>(options.sinks);
  const size_t places = static_cast<size_t>(options.budget) - prefix;
  std::vector<size_t> positions;
  for (const size_t offset : rotation_offsets(options)) {
    positions.push_back(params.at("absolute_position").get<size_t>() + offset);
  }
  const auto rotations =
      testing::rotations_of(shape[2], params.at("rope_theta").get<double>(), positions);

  std::vector<std::vector<double>> heads;       // of all layers, over the competing entries
  std::vector<std::vector<int32_t>> of_layers;  // kept by every KV head of every layer
  std::vector<LayerScores> scores;
  for (size_t l = 0; l < shape[0]; ++l) {
    LayerObservation layer;
    layer.keys = layer.values = golden.heads("keys", l);
    layer.queries = {nullptr, shape[1], 0, layer.keys.dim};
    layer.rotations = rotations;
    layer.layer = l;
    layer.layers = shape[0];
    SelectionTrace trace;
    const Selection selection = select_tokens(layer, options, &trace);
    of_layers.insert(of_layers.end(), selection.keep.begin(), selection.keep.end());
    scores.push_back(score_tokens(layer, options));
    std::vector<std::vector<float>> raw;
    for (const std::vector<float>& row : trace.raw) {
      raw.emplace_back(row.begin() + static_cast<ptrdiff_t>(prefix), row.end());
      heads.emplace_back(raw.back().begin(), raw.back().end());
      if (own_switch(options, "standardize")) standardize(heads.back());
    }
    testing::expect_close(raw, golden.heads("scores_f64").head(l), 0, 1e-4F);
  }

  std::vector<std::vector<int32_t>> kept;
  if (params.at("mode") == "per_layer_per_head") {
    kept = of_layers;
  } else if (params.at("mode") == "per_head") {
    // One selection per KV head for all layers, by the mean over layers.
    for (size_t h = 0; h < scores[0].heads; ++h) {
      std::vector<double> mean(scores[0].candidates, 0.0);
      for (const LayerScores& layer : scores) {
        for (size_t j = 0; j < mean.size(); ++j) mean[j] += layer.rows().row(h)[j];
      }
      kept.push_back(best(mean, static_cast<size_t>(options.budget)));
    }
  } else {
    kept.emplace_back();
    for (int32_t j = 0; j < options.sinks; ++j) kept[0].push_back(j);
    for (const int32_t j : best_of_union(heads, places)) kept[0].push_back(j + options.sinks);
  }
  std::vector<int32_t> flat;
  for (const auto& row : kept) flat.insert(flat.end(), row.begin(), row.end());
  EXPECT_EQ(flat, golden.ints("keep"));
}

}  // namespace restkv
