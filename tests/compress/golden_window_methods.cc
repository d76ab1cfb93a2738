// Methods that score from the observation window in their own ways: chunkkv, finch, dropkv, rkv.

#include <gtest/gtest.h>

#include <vector>

#include "compress/golden_baselines.h"
#include "compress/golden_compare.h"
#include "restkv/compress.h"

namespace restkv {
namespace {

using testing::expect_close;
using testing::expect_keeps;
using testing::GoldenCase;

LayerObservation layer_of(const GoldenCase& golden) {
  LayerObservation layer;
  layer.queries = golden.heads("q");
  layer.keys = golden.heads("k");
  layer.values = golden.heads("v");
  return layer;
}

}  // namespace

void run_chunkkv(GoldenCase& golden) {
  const LayerObservation layer = layer_of(golden);
  const Json& inner = golden.params().at("inner");
  const Json& arguments = inner.at("args");
  const int length = golden.params().at("chunk_length").get<int>();
  CompressionOptions options = default_options("chunkkv");
  options.own["chunk_length"] = length;
  options.own["chunk_score"] = inner.at("press") == "KnormPress" ? "knorm" : "snapkv";
  options.window = arguments.value("window_size", 64);
  options.kernel = arguments.value("kernel_size", 5);
  options.budget = testing::press_budget(arguments, layer.keys.rows);
  SelectionTrace trace;
  expect_keeps(golden, select_tokens(layer, options, &trace));
  expect_close(trace.raw, golden.matrix("scores"));
  const std::vector<float>& expected = golden.floats("chunk_scores");
  for (std::vector<float> row : trace.scores) {
    std::vector<float> of_chunks;
    for (size_t j = 0; j < row.size(); j += static_cast<size_t>(length)) {
      of_chunks.push_back(row[j]);
    }
    ASSERT_EQ(of_chunks.size(), expected.size());
    expect_close({of_chunks}, {expected.data(), 1, expected.size()});
  }
}

void run_finch(GoldenCase& golden) {
  const LayerObservation layer = layer_of(golden);
  const Json& arguments = golden.params().at("args");
  CompressionOptions options = default_options("finch");
  options.window = golden.params().at("window").get<int>();
  options.budget = testing::press_budget(arguments, layer.keys.rows);
  options.own["weigh_rows"] = arguments.value("normalize_scores", true);
  options.own["chunk_length"] = arguments.value("chunk_length", 0);
  SelectionTrace trace;
  expect_keeps(golden, select_tokens(layer, options, &trace));
  expect_close(trace.raw, golden.matrix("scores"));
}

void run_dropkv(GoldenCase& golden) {
  const LayerObservation layer = layer_of(golden);
  const Json& arguments = golden.params().at("args");
  CompressionOptions options = default_options("dropkv");
  options.budget = testing::press_budget(arguments, layer.keys.rows);
  options.window = arguments.value("window_size", options.window);
  options.kernel = arguments.value("kernel_size", options.kernel);
  if (arguments.contains("epsilon")) {
    options.own["drop_epsilon"] = arguments.at("epsilon").get<double>();
  }
  SelectionTrace trace;
  expect_keeps(golden, select_tokens(layer, options, &trace));
  expect_close(trace.raw, golden.matrix("raw"));
  expect_close(trace.scores, golden.matrix("scores"));
}

void run_rkv(GoldenCase& golden) {
  const LayerObservation layer = layer_of(golden);
  const Json& params = golden.params();
  CompressionOptions options = default_options("rkv");
  options.budget = params.at("budget").get<int>();
  options.window = params.at("window").get<int>();
  options.kernel = params.at("kernel").get<int>();
  options.own["mix_lambda"] = params.at("mix_lambda").get<double>();
  // The authors' words with a percentage choose the same keys.
  options.own["representative"] =
      params.at("retain_direction").text().starts_with("first") ? "first" : "last";
  SelectionTrace trace;
  expect_keeps(golden, select_tokens(layer, options, &trace));
  if (!golden.has("scores")) return;  // kept whole
  expect_close(trace.smoothed, golden.matrix("attn"));
  expect_close(trace.raw, golden.matrix("similarity"));
  expect_close(trace.scores, golden.matrix("scores"));
}

}  // namespace restkv
