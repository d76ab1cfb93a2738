// Compress the key/value cache of an engine of your own: arrays in, a small cache out.
//
// Shows every stage on one layer with made-up tensors (grouped-query attention, 8 query heads on 2
// KV heads), once in one call and once step by step, and measures what the next token loses with
// three methods. As in a text, neighbouring tokens are about the same thing, and the last tokens
// ask for one of these.
//
//   cmake -S examples -B build/examples -DCMAKE_PREFIX_PATH=<where restkv is installed>
//   cmake --build build/examples && build/examples/evict_tensors

#include <cmath>
#include <cstddef>
#include <cstdio>
#include <random>
#include <vector>

#include "restkv/attention.h"
#include "restkv/compress.h"
#include "restkv/error.h"
#include "restkv/kv_cache.h"
#include "restkv/stages.h"

namespace {

constexpr size_t kQueryHeads = 8;
constexpr size_t kKvHeads = 2;
constexpr size_t kHeadDim = 32;
constexpr size_t kWidth = kQueryHeads * kHeadDim;
constexpr size_t kTokens = 2000;
constexpr size_t kTopicTokens = 40;  // neighbours with the same topic
constexpr size_t kAskedTopic = 17;   // of 50: tokens 680 to 719

std::vector<float> normal_values(size_t count, float deviation, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal(0.0F, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

/// Adds what stands at `from` in `source`, so many times, to `values` from `to` on.
void add(std::vector<float>& values, size_t to, const std::vector<float>& source, size_t from,
         float times) {
  for (size_t c = 0; c < kHeadDim; ++c) values[to + c] += times * source[from + c];
}

/// Attention of one new token over the cache: [query_heads, head_dim].
std::vector<float> attend(const std::vector<float>& query, const restkv::KvCache& cache) {
  std::vector<float> out(kWidth);
  restkv::decode_attention({query.data(), kQueryHeads, kHeadDim}, cache.heads(0), {},
                           {out.data(), kQueryHeads, kHeadDim});
  return out;
}

double relative_error(const std::vector<float>& actual, const std::vector<float>& expected) {
  double error = 0;
  double norm = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double difference = static_cast<double>(actual[i]) - static_cast<double>(expected[i]);
    error += difference * difference;
    norm += static_cast<double>(expected[i]) * static_cast<double>(expected[i]);
  }
  return std::sqrt(error / norm);
}

}  // namespace

int main() try {
  restkv::CompressionOptions options = restkv::default_options("restkv");
  options.budget = 256;  // of 2,000 tokens, the last 32 included
  options.allocation = "ada";

  // What an engine has after the prompt went through a layer: the rotated queries of its last
  // tokens, its keys and values, and W_O (whose factors are made once per model).
  const size_t window = restkv::observed_queries(options);
  auto queries = normal_values(kQueryHeads * window * kHeadDim, 0.5F, 1);
  auto keys = normal_values(kKvHeads * kTokens * kHeadDim, 0.5F, 2);
  auto values = normal_values(kKvHeads * kTokens * kHeadDim, 0.5F, 3);
  const auto wo = normal_values(kWidth * kWidth, 0.1F, 4);
  const auto topics = normal_values(kTokens / kTopicTokens * kHeadDim, 1.0F, 5);
  for (size_t row = 0; row < kKvHeads * kTokens; ++row) {
    const size_t topic = row % kTokens / kTopicTokens;
    add(keys, row * kHeadDim, topics, topic * kHeadDim, 1.0F);
    add(values, row * kHeadDim, topics, topic * kHeadDim, 1.0F);
  }
  for (size_t row = 0; row < kQueryHeads * window; ++row) {
    add(queries, row * kHeadDim, topics, kAskedTopic * kHeadDim, 1.5F);
  }
  const restkv::OutputFactor factor({wo.data(), kWidth, kWidth}, kQueryHeads, kHeadDim);

  restkv::LayerObservation layer;
  layer.queries = {queries.data(), kQueryHeads, window, kHeadDim};
  layer.keys = {keys.data(), kKvHeads, kTokens, kHeadDim};
  layer.values = {values.data(), kKvHeads, kTokens, kHeadDim};
  layer.output = &factor;

  // All stages in one call ...
  const restkv::Selection selection = restkv::select_tokens(layer, options);

  // ... or one by one, to look at what happens or to change it.
  const restkv::LayerScores scores = restkv::score_tokens(layer, options);
  const std::vector<size_t> counts = restkv::allocate_budget(layer, scores, options);
  const restkv::Selection same = restkv::select_best(scores, counts, kTokens);
  if (same.keep != selection.keep) {
    std::fprintf(stderr, "the stages disagree with select_tokens\n");
    return 1;
  }

  // Gather the kept rows into a ragged half-precision cache and let the next token attend to it.
  restkv::KvCache small(1, kKvHeads, kHeadDim, kHeadDim);
  small.gather(0, layer.keys, layer.values, selection);
  restkv::KvCache full(1, kKvHeads, kHeadDim, kHeadDim);
  full.gather(0, layer.keys, layer.values,
              restkv::select_tokens(layer, restkv::default_options("full")));
  std::vector<float> next(kWidth);  // a query like the last one
  for (size_t h = 0; h < kQueryHeads; ++h) {
    for (size_t c = 0; c < kHeadDim; ++c) {
      next[h * kHeadDim + c] = layer.queries.row(h, window - 1)[c];
    }
  }

  for (size_t h = 0; h < kKvHeads; ++h) {
    std::printf("KV head %zu keeps %zu of %zu tokens\n", h, selection.keep[h].size(), kTokens);
  }
  std::printf("cache %.0f KiB instead of %.0f KiB\n",
              static_cast<double>(small.kept_bytes()) / 1024.0,
              static_cast<double>(full.kept_bytes()) / 1024.0);
  // The same number of tokens by other methods.
  for (const char* method : {"restkv", "streaming-llm", "random"}) {
    restkv::CompressionOptions other = restkv::default_options(method);
    other.budget = options.budget;
    restkv::KvCache cache(1, kKvHeads, kHeadDim, kHeadDim);
    cache.gather(0, layer.keys, layer.values, restkv::select_tokens(layer, other));
    std::printf("%-14s the next token's attention output changes by %.1f%%\n", method,
                100.0 * relative_error(attend(next, cache), attend(next, full)));
  }
  return 0;
} catch (const restkv::Error& error) {
  std::fprintf(stderr, "%s\n", error.what());
  return 1;
}
