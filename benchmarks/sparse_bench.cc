// Sparse against dense prompt attention of one layer: time, time to choose tiles, density, recall.
//
// Queries and keys are synthetic, with typical structures of attention: a first token with much
// attention, neighbours, and segments of text with a common topic. For a real model:
// restkv run --sparse PATTERN --sparse-recall --stats.

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "bench/machine.h"
#include "engine/layer_kv.h"
#include "engine/sparse_prefill.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/sparse.h"

namespace {

using restkv::AlignedVector;
using restkv::Heads;
using restkv::bench::random_floats;
using restkv::bench::seconds;

constexpr size_t kBlock = 512;    // queries that an engine attends at a time
constexpr size_t kSegment = 256;  // tokens of one topic
constexpr size_t kTopics = 50;    // they recur
constexpr size_t kWaves = 8;      // frequencies of positions, as in rotary embedding
constexpr float kTopicWeight = 1.5F;
constexpr float kPlaceWeight = 2.5F;
constexpr float kSinkWeight = 4.0F;

/// Adds topics, positions and the first token's attraction to random rows [heads, n, d].
void add_structure(Heads<float> rows, const AlignedVector<float>& topics, bool keys) {
  for (size_t h = 0; h < rows.heads; ++h) {
    for (size_t i = 0; i < rows.rows; ++i) {
      float* row = rows.row(h, i);
      // A fixed shuffle of the segments.
      const size_t topic = i / kSegment * 2654435761U % kTopics;
      for (size_t c = 0; c < rows.dim; ++c) row[c] += kTopicWeight * topics[topic * rows.dim + c];
      for (size_t w = 0; w < kWaves; ++w) {
        const double angle = static_cast<double>(i) / std::pow(4.0, static_cast<double>(w));
        row[2 * w] = kPlaceWeight * static_cast<float>(std::cos(angle));
        row[2 * w + 1] = kPlaceWeight * static_cast<float>(std::sin(angle));
      }
      row[2 * kWaves] = keys && i > 0 ? 0 : kSinkWeight;
    }
  }
}

void sparse(benchmark::State& state, const char* pattern, const char* precision) {
  restkv::AttentionOptions options;
  options.precision = restkv::find_attention_precision(precision);
  restkv::ModelConfig config;
  config.layers = 1;
  config.query_heads = static_cast<size_t>(state.range(0));
  config.kv_heads = static_cast<size_t>(state.range(1));
  config.key_dim = config.value_dim = static_cast<size_t>(state.range(2));
  const auto n = static_cast<size_t>(state.range(3));
  const size_t dim = config.key_dim;
  auto q = random_floats(config.query_heads * n * dim);
  auto k = random_floats(config.kv_heads * n * dim);
  const auto v = random_floats(config.kv_heads * n * dim);
  const auto topics = random_floats(kTopics * dim);
  const Heads<float> queries(q.data(), config.query_heads, n, dim);
  const Heads<float> keys(k.data(), config.kv_heads, n, dim);
  add_structure(queries, topics, false);
  add_structure(keys, topics, true);
  AlignedVector<float> out(config.query_heads * kBlock * dim);

  restkv::LayerKv kv;
  kv.begin(config, nullptr, 0, n, 0);
  kv.store(keys, {v.data(), config.kv_heads, n, dim}, 0);
  const auto each_block = [&](auto&& attend) {
    for (size_t first = 0; first < n; first += kBlock) {
      const size_t rows = std::min(kBlock, n - first);
      attend(queries.slice_rows(first, rows), first,
             Heads<float>(out.data(), config.query_heads, rows, dim));
    }
  };
  const auto masked = [&](restkv::SparsePrefill& prefill) {
    prefill.begin_layer(0, options, n, 32, kv);
    if (prefill.looks_ahead()) {
      prefill.look_ahead(queries.slice_rows(n - restkv::kMaskTile, restkv::kMaskTile), kv);
    }
    each_block([&](Heads<const float> block, size_t first, Heads<float> to) {
      const auto lse = prefill.begin_block(block, kv, first, {});
      kv.attend(block, first, first + block.rows, options, to, lse);
      prefill.end_block(block, kv, first, lse);
    });
  };

  double dense = 1e30;
  double attention = 1e30;
  double search = 1e30;
  restkv::SparsePrefill prefill(config);
  for (auto _ : state) {
    kv.begin(config, nullptr, 0, n, 0);  // no masks
    kv.store(keys, {v.data(), config.kv_heads, n, dim}, 0);
    dense = std::min(dense, seconds([&] {
                       each_block([&](Heads<const float> block, size_t first, Heads<float> to) {
                         kv.attend(block, first, first + block.rows, options, to, {});
                       });
                     }));
    prefill.set(restkv::parse_sparse(pattern));
    masked(prefill);
    attention = std::min(attention, prefill.report().attention_seconds);
    search = std::min(search, prefill.report().search_seconds);
  }
  restkv::SparseOptions measured = restkv::parse_sparse(pattern);
  measured.measure_recall = true;
  prefill.set(measured);
  masked(prefill);
  state.counters["dense_ms"] = dense * 1e3;
  state.counters["sparse_ms"] = attention * 1e3;
  state.counters["search/dense"] = search / dense;
  state.counters["speedup"] = dense / (attention + search);
  state.counters["density"] = prefill.report().total().density();
  state.counters["recall"] = prefill.report().total().recall();
}

void shapes(benchmark::internal::Benchmark* bench) {
  bench->Args({9, 3, 64, 8192})
      ->Args({32, 8, 128, 8192})
      ->Args({9, 3, 64, 32768})
      ->Args({9, 3, 64, 131072})
      ->Iterations(1)
      ->Unit(benchmark::kMillisecond);
}
// In float32, and in bfloat16 where the processor has it.
BENCHMARK_CAPTURE(sparse, a_shape, "a-shape", "f32")->Apply(shapes);
BENCHMARK_CAPTURE(sparse, vertical_slash, "vertical-slash", "f32")->Apply(shapes);
BENCHMARK_CAPTURE(sparse, flexprefill, "flexprefill", "f32")->Apply(shapes);
BENCHMARK_CAPTURE(sparse, xattention, "xattention", "f32")->Apply(shapes);
BENCHMARK_CAPTURE(sparse, sampled, "sampled", "f32")->Apply(shapes);
BENCHMARK_CAPTURE(sparse, a_shape_auto, "a-shape", "auto")->Apply(shapes);
BENCHMARK_CAPTURE(sparse, vertical_slash_auto, "vertical-slash", "auto")->Apply(shapes);
BENCHMARK_CAPTURE(sparse, flexprefill_auto, "flexprefill", "auto")->Apply(shapes);
BENCHMARK_CAPTURE(sparse, xattention_auto, "xattention", "auto")->Apply(shapes);
BENCHMARK_CAPTURE(sparse, sampled_auto, "sampled", "auto")->Apply(shapes);

}  // namespace

BENCHMARK_MAIN();
