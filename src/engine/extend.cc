// Streams: caches that go on after their first prompt, for turns, chunks and long generations.

#include <algorithm>
#include <chrono>

#include "engine/engine_state.h"
#include "engine/stream.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// What one cache head may look at.
LayerObservation part_of(const LayerObservation& layer, const LayerKv::Part& part) {
  LayerObservation result = layer;
  const size_t rows = layer.keys.rows - part.hidden;
  const size_t group = layer.queries.heads / layer.keys.heads;
  const size_t first = part.head * group;
  const size_t heads = part.heads * group;
  result.keys = layer.keys.slice_heads(part.head, part.heads).slice_rows(part.hidden, rows);
  result.values = layer.values.slice_heads(part.head, part.heads).slice_rows(part.hidden, rows);
  result.queries = layer.queries.slice_heads(first, heads);
  result.log_sums = {};  // of all positions, hidden ones too
  result.outputs = {};
  result.first_query_head = first;
  if (layer.attention_sums.data != nullptr) {
    const auto sums = layer.attention_sums.slice(first, heads);
    result.attention_sums = {sums.data + part.hidden, heads, rows, sums.stride};
  }
  if (layer.output_weights.data != nullptr) {
    const size_t channels = layer.values.dim;
    result.output_weights = {layer.output_weights.data + first * channels,
                             layer.output_weights.rows, heads * channels,
                             layer.output_weights.stride};
  }
  return result;
}

}  // namespace

void Engine::keep_in_stream(CacheStream& stream, size_t layer, size_t added,
                            LayerObserver& observer) {
  const ModelConfig& c = model_.config();
  State& s = *state_;
  KvCache& cache = stream.request.cache;
  LayerKv& kv = s.kv;
  const size_t window = c.windows[layer];
  const bool compress = stream.compressing(added);
  if (!compress && kv.prefix() > 0 && window == 0) {
    const Heads<const float> keys = LayerKv::per_kv_head(kv.keys(), c.kv_heads);
    const Heads<const float> values = LayerKv::per_kv_head(kv.values(), c.kv_heads);
    for (size_t row = kv.prefix(); row < kv.rows(); ++row) {
      cache.append(layer, across_heads(keys, row), across_heads(values, row),
                   kv.positions()[0][row]);
    }
    return;
  }
  Selection kept;
  if (window > 0) {
    kept = last_rows(kv.heads(), kv.rows(), window);
  } else if (!compress) {
    kept = last_rows(kv.heads(), kv.rows(), kv.rows());
  } else {
    LayerObservation whole = observe(observer, 0, layer);
    whole.tokens = stream.held + added;
    whole.ladder_cursor = &stream.layers[layer].ladder_cursor;
    std::vector<LayerObservation> parts;
    for (const LayerKv::Part& part : kv.parts()) parts.push_back(part_of(whole, part));
    kept = select_ragged(parts, stream.request.options);
    // A selection per query head of a cache per KV head makes more heads than there were.
    const size_t repeat = kept.keep.size() / kv.heads();
    for (const LayerKv::Part& part : kv.parts()) {
      for (size_t h = part.head * repeat; h < (part.head + part.heads) * repeat; ++h) {
        for (int32_t& row : kept.keep[h]) row += static_cast<int32_t>(part.hidden);
      }
    }
    stream.layers[layer].sums.keep(kept);
  }
  const std::vector<std::vector<int32_t>> positions =
      compress && window == 0 && stream.compact_positions ? compact(stream, added, kept)
                                                          : kv.positions();
  cache.gather(layer, kv.keys(), kv.values(), kept, positions);
  if (window > 0) cache.limit(layer, window);
}

std::vector<std::vector<int32_t>> Engine::compact(const CacheStream& stream, size_t added,
                                                  const Selection& kept) {
  State& s = *state_;
  RopeTable& rope = s.rope_of(0);
  rope.grow(stream.request.cache.next_position + added);
  const auto end = static_cast<size_t>(stream.request.options.budget);
  std::vector<std::vector<int32_t>> positions = s.kv.positions();
  for (size_t h = 0; h < positions.size(); ++h) {
    const std::vector<int32_t>& keep = kept.keep[h];
    for (size_t i = 0; i < keep.size(); ++i) {
      const auto row = static_cast<size_t>(keep[i]);
      int32_t& position = positions[h][row];
      const size_t moved = end - keep.size() + i;  // `start` has seen to keep.size() <= end
      rope.move({s.kv.keys().row(h, row), 1, 1, s.kv.keys().dim}, static_cast<size_t>(position),
                moved);
      position = static_cast<int32_t>(moved);
    }
  }
  return positions;
}

void Engine::renumber_windows(CacheStream& stream, size_t added) {
  if (!stream.compact_positions) return;
  const ModelConfig& c = model_.config();
  KvCache& cache = stream.request.cache;
  LayerKv& kv = state_->kv;
  for (size_t layer = 0; layer < c.layers; ++layer) {
    const size_t window = c.windows[layer];
    if (window == 0 || cache.heads(layer).empty()) continue;
    const std::span<const int32_t> before = cache.positions(layer, 0);
    const auto last = before.empty() ? size_t{0} : static_cast<size_t>(before.back());
    if (last + added < c.context_length + window) continue;
    kv.begin(c, &cache, layer, 0, 0);
    RopeTable& rope = state_->rope_of(window);
    for (size_t h = 0; h < kv.heads(); ++h) {
      for (size_t row = 0; row < kv.rows(); ++row) {
        rope.move({kv.keys().row(h, row), 1, 1, kv.keys().dim},
                  static_cast<size_t>(kv.positions()[h][row]), row);
      }
    }
    cache.gather(layer, kv.keys(), kv.values(), last_rows(kv.heads(), kv.rows(), kv.rows()));
    cache.limit(layer, window);
  }
}

void Engine::finish_stream(CacheStream& stream, size_t added) {
  const bool cut = stream.compressing(added);
  KvCache& cache = stream.request.cache;
  cache.next_position += added;
  stream.held += added;
  if (!cut) return;
  const auto budget = static_cast<size_t>(stream.request.options.budget);
  size_t longest = 0;  // less than the budget where a method has cut deeper, as lacache does
  for (size_t layer = 0; layer < cache.layers(); ++layer) {
    if (model_.config().windows[layer] > 0) continue;
    for (const CachedHead& head : cache.heads(layer)) longest = std::max(longest, head.count);
  }
  stream.held = std::min(budget, longest);
  if (stream.compact_positions) cache.next_position = budget;
}

void Engine::start(CacheStream& stream) const {
  const ModelConfig& c = model_.config();
  const CompressionOptions& options = stream.request.options;
  validate(options, c.cache_shape());
  if (observed_queries(options) == kAllQueries) {
    throw Error(ErrorCode::kInvalidArgument,
                "method " + options.method +
                    " looks at all queries of a prompt, which a stream of turns or chunks does not "
                    "keep; switch off 'acausal'");
  }
  if (stream.compact_positions &&
      (options.allocation != "uniform" || options.per_query_head || options.skip_layers > 0)) {
    throw Error(ErrorCode::kInvalidArgument,
                "compact positions need the same number of tokens in all layers and heads: use "
                "the allocation uniform, one selection per KV head, and skip_layers 0");
  }
  stream.layers.resize(c.layers);
  stream.request.cache =
      KvCache(c.layers, c.kv_heads, c.key_dim, c.value_dim, stream.request.kv_type);
}

std::vector<float> Engine::extend(std::span<const int32_t> tokens, CacheStream& stream,
                                  const ProgressCallback& progress) {
  run_prompt(tokens, {&stream.request, 1}, &stream, 1, progress);
  return last_logits(tokens.size());
}

std::span<const float> Engine::decode(int32_t token, CacheStream& stream) {
  KvCache* const caches[] = {&stream.request.cache};
  renumber_windows(stream, 1);
  TokenObserver observer(model_, stream.request.options, stream.layers, state_->rope_of(0),
                         stream.request.cache.next_position, state_->observer);
  const auto logits = decode_rows({&token, 1}, caches, StoredProduct::kRounded, &observer);
  ++stream.held;
  return logits.row_span(0);
}

void Engine::compress(CacheStream& stream) {
  if (!stream.compressing(0)) return;
  const auto start = std::chrono::steady_clock::now();
  const ModelConfig& c = model_.config();
  State& s = *state_;
  const size_t position = stream.request.cache.next_position;
  LayerObserver observer(model_, {&stream.request, 1}, 0, s.rope_of(0), position, true);
  for (size_t layer = 0; layer < c.layers; ++layer) {
    if (c.windows[layer] > 0) continue;
    s.kv.begin(c, &stream.request.cache, layer, 0, position);
    observer.begin_layer(s.kv.rows(), s.kv.prefix(), &stream.layers[layer]);
    naming_the_file(model_, [&] { keep_in_stream(stream, layer, 0, observer); });
  }
  finish_stream(stream, 0);
  stream.request.compress_seconds +=
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

}  // namespace restkv
