// A foreign engine's view of the library: its own arrays in, the positions to keep out.

#include <cstddef>
#include <cstdio>
#include <random>
#include <vector>

#include "restkv/compress.h"
#include "restkv/error.h"

int main() try {
  constexpr size_t kQueryHeads = 4;
  constexpr size_t kKvHeads = 2;
  constexpr size_t kTokens = 300;
  constexpr size_t kHeadDim = 16;

  restkv::CompressionOptions options = restkv::default_options("snapkv");
  options.budget = 64;

  std::mt19937 random(1);
  std::normal_distribution<float> normal;
  const auto fill = [&](size_t count) {
    std::vector<float> values(count);
    for (float& value : values) value = normal(random);
    return values;
  };
  const auto window = restkv::observed_queries(options);
  const std::vector<float> queries = fill(kQueryHeads * window * kHeadDim);
  const std::vector<float> keys = fill(kKvHeads * kTokens * kHeadDim);
  const std::vector<float> values = fill(kKvHeads * kTokens * kHeadDim);

  restkv::LayerObservation layer;
  layer.queries = {queries.data(), kQueryHeads, window, kHeadDim};
  layer.keys = {keys.data(), kKvHeads, kTokens, kHeadDim};
  layer.values = {values.data(), kKvHeads, kTokens, kHeadDim};
  const restkv::Selection selection = restkv::select_tokens(layer, options);

  if (selection.keep.size() != kKvHeads) return 1;
  for (const auto& kept : selection.keep) {
    if (kept.size() != static_cast<size_t>(options.budget)) return 1;
    std::printf("kept %zu of %zu tokens\n", kept.size(), kTokens);
  }
  return 0;
} catch (const restkv::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
