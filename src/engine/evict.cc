#include "engine/evict.h"

#include <algorithm>
#include <numeric>

#include "base/stopwatch.h"
#include "engine/checks.h"
#include "restkv/error.h"
#include "restkv/stages.h"

namespace restkv {
namespace {

/// The observation of one part of the heads.
LayerObservation part_of(const LayerObservation& layer, const LayerKv::Part& part) {
  LayerObservation result = layer;
  const size_t rows = layer.keys.rows - part.padding;
  const size_t group = layer.queries.heads / layer.keys.heads;
  const size_t first = part.head * group;
  const size_t heads = part.heads * group;
  result.keys = layer.keys.slice_heads(part.head, part.heads).slice_rows(part.padding, rows);
  result.values = layer.values.slice_heads(part.head, part.heads).slice_rows(part.padding, rows);
  if (layer.bias.data != nullptr) {
    const auto bias = layer.bias.slice(part.head, part.heads);
    result.bias = {bias.data + part.padding, part.heads, rows, bias.stride};
  }
  if (layer.unrotated_keys.data != nullptr) {
    result.unrotated_keys =
        layer.unrotated_keys.slice_heads(part.head, part.heads).slice_rows(part.padding, rows);
  }
  result.queries = layer.queries.slice_heads(first, heads);
  result.repeat_queries = layer.repeat_queries.slice_heads(first, heads);
  result.lse = {};  // they cover padding, too
  result.outputs = {};
  result.first_query_head = first;
  if (!layer.sink_logits.empty()) result.sink_logits = layer.sink_logits.subspan(first, heads);
  if (layer.attention_sums.data != nullptr) {
    const auto sums = layer.attention_sums.slice(first, heads);
    result.attention_sums = {sums.data + part.padding, heads, rows, sums.stride};
  }
  if (layer.watched.data != nullptr) {
    const auto watched = layer.watched.slice(first, heads);
    result.watched = {watched.data + part.padding, heads, rows, watched.stride};
  }
  if (layer.output_weights.data != nullptr) {
    const size_t channels = layer.values.dim;
    result.output_weights = {layer.output_weights.data + first * channels,
                             layer.output_weights.rows, heads * channels,
                             layer.output_weights.stride};
  }
  return result;
}

/// Renumbers the kept rows so that the last one has position `end` - 1, and rotates their keys to
/// the new positions by `rope`; null: keys know nothing of positions. Returns the positions in the
/// form of `LayerKv::positions`.
std::vector<std::vector<int32_t>> compact(RopeTable* rope, size_t next_position, LayerKv& kv,
                                          const Selection& kept, size_t end) {
  if (rope != nullptr) rope->grow(next_position);
  std::vector<std::vector<int32_t>> positions = kv.positions();
  for (size_t h = 0; h < positions.size(); ++h) {
    const std::vector<int32_t>& keep = kept.keep[h];
    for (size_t i = 0; i < keep.size(); ++i) {
      const auto row = static_cast<size_t>(keep[i]);
      int32_t& position = positions[h][row];
      const size_t moved = end - keep.size() + i;  // `begin_sequence` ensures keep.size() <= end
      if (rope != nullptr) {
        rope->move({kv.keys().row(h, row), 1, 1, kv.keys().dim}, static_cast<size_t>(position),
                   moved);
      }
      position = static_cast<int32_t>(moved);
    }
  }
  return positions;
}

/// Folds evicted values into kept ones. `kept` counts rows without the padding of their part.
void merge_parts(LayerKv& kv, const Selection& kept, const CompressionOptions& options) {
  for (const LayerKv::Part& part : kv.parts()) {
    const auto first = kept.keep.begin() + static_cast<ptrdiff_t>(part.head);
    const size_t rows = kv.rows() - part.padding;
    merge_evicted(kv.visible(part, kv.keys()),
                  kv.values().slice_heads(part.head, part.heads).slice_rows(part.padding, rows),
                  {{first, first + static_cast<ptrdiff_t>(part.heads)}}, options);
  }
}

/// Cuts a layer again: its heads keep `rows` of those that the open layer holds.
void cut_again(Sequence& sequence, size_t layer, const Selection& rows) {
  KvCache& cache = sequence.cache;
  // The rows of the state begin with the padding of heads that are not the longest.
  size_t longest = 0;
  for (size_t h = 0; h < rows.keep.size(); ++h) {
    longest = std::max(longest, cache.positions(layer, h).size());
  }
  Selection of_state = rows;
  for (size_t h = 0; h < rows.keep.size(); ++h) {
    const auto padding = static_cast<int32_t>(longest - cache.positions(layer, h).size());
    for (int32_t& row : of_state.keep[h]) row += padding;
  }
  sequence.layers[layer].keep(of_state);
  cache.keep(layer, rows);
}

/// `LayerObservation::settled` of a layer that holds `added` tokens which are not counted yet.
size_t settled(const Sequence& sequence, size_t added, LayerKv& kv) {
  if (sequence.cut_at == 0) return 0;
  size_t rows = 0;
  for (const LayerKv::Part& part : kv.parts()) rows += part.heads * (kv.rows() - part.padding);
  const size_t average = (rows + kv.heads() - 1) / kv.heads();
  return average - std::min(average, sequence.fresh() + added);
}

/// Observations of the parts of a layer.
std::vector<LayerObservation> observe(const Model& model, Sequence& sequence, size_t layer,
                                      size_t added, LayerKv& kv, LayerObserver& observer) {
  LayerObservation whole = observer.observation(0, layer);
  whole.keys = kv.keys();
  whole.values = kv.values();
  whole.bias = kv.bias();
  whole.unrotated_keys = observer.unrotated_keys(0, layer, kv);
  whole.precision = model.attention_precision();
  whole.tokens = sequence.cached_tokens + added;
  whole.settled = settled(sequence, added, kv);
  whole.state = &sequence.layers[layer].method_state;
  std::vector<LayerObservation> parts;
  for (const LayerKv::Part& part : kv.parts()) parts.push_back(part_of(whole, part));
  return parts;
}

/// Selects the rows of `kv` that are kept.
Selection choose(Sequence& sequence, LayerCuts& cuts, size_t layer, LayerKv& kv,
                 std::span<const LayerObservation> parts) {
  Selection kept = cuts.choose(layer, parts, [&](size_t earlier, const Selection& rows) {
    cut_again(sequence, earlier, rows);
  });
  if (cuts.options().merge) merge_parts(kv, kept, cuts.options());
  // A selection per query head of a cache per KV head has more heads than the cache.
  const size_t repeat = kept.keep.size() / kv.heads();
  for (const LayerKv::Part& part : kv.parts()) {
    for (size_t h = part.head * repeat; h < (part.head + part.heads) * repeat; ++h) {
      for (int32_t& row : kept.keep[h]) row += static_cast<int32_t>(part.padding);
    }
  }
  sequence.layers[layer].keep(kept);
  return kept;
}

/// Stores the kept rows of a layer in the sequence's cache: all of them, or those that `options`
/// select if `added` new tokens exceed their budget.
void keep_layer(const Model& model, Workspace& workspace, Sequence& sequence,
                const CompressionOptions& options, LayerCuts& cuts, LayerRefits& refits,
                size_t layer, size_t added, LayerKv& kv, LayerObserver& observer) {
  const ModelConfig& c = model.config();
  KvCache& cache = sequence.cache;
  if (c.windows[layer] > 0 || !sequence.passes(options.budget, added)) {
    keep_whole_layer(c, cache, layer, kv);
    return;
  }
  const std::vector<LayerObservation> parts = observe(model, sequence, layer, added, kv, observer);
  const Selection kept = choose(sequence, cuts, layer, kv, parts);
  const size_t next = cache.next_position + added;
  cache.gather(layer, kv.keys(), kv.values(), kept,
               sequence.options.compact_positions
                   ? compact(c.rotates(layer) ? &workspace.rope_of(0) : nullptr, next, kv, kept,
                             static_cast<size_t>(options.budget))
                   : kv.positions(),
               cuts.come_again() || refits.needed(), kv.bias());
  if (refits.needed()) refits.take(cache, layer, kept.keep.size(), kv, parts, next);
}

/// Updates counts and positions after all layers.
void finish_layers(const ModelConfig& c, Sequence& sequence, LayerRefits& refits, int budget,
                   size_t added) {
  const bool evicted = sequence.passes(budget, added);
  KvCache& cache = sequence.cache;
  cache.next_position += added;
  sequence.cached_tokens += added;
  if (!evicted) return;
  sequence.reserved = 0;
  sequence.cut_at = sequence.tokens + added;
  refits.finish(cache);
  for (size_t layer = 0; layer < cache.layers(); ++layer) cache.close(layer);
  size_t longest = 0;  // less than the budget where a method has cut deeper, as lacache does
  for (size_t layer = 0; layer < cache.layers(); ++layer) {
    if (c.windows[layer] > 0) continue;
    for (const CachedHead& head : cache.heads(layer)) longest = std::max(longest, head.count);
  }
  sequence.cached_tokens = std::min(static_cast<size_t>(budget), longest);
  if (sequence.options.compact_positions) cache.next_position = static_cast<size_t>(budget);
}

}  // namespace

Selection last_rows(size_t heads, size_t n, size_t count) {
  std::vector<int32_t> rows(std::min(n, count));
  std::iota(rows.begin(), rows.end(), static_cast<int32_t>(n - rows.size()));
  return {std::vector<std::vector<int32_t>>(heads, rows)};
}

void keep_whole_layer(const ModelConfig& config, KvCache& cache, size_t layer, LayerKv& kv) {
  const size_t window = config.windows[layer];
  if (kv.prefix() > 0 && window == 0) {
    const Heads<const float> keys = LayerKv::per_kv_head(kv.keys(), config.kv_heads);
    const Heads<const float> values = LayerKv::per_kv_head(kv.values(), config.kv_heads);
    for (size_t row = kv.prefix(); row < kv.rows(); ++row) {
      cache.append(layer, across_heads(keys, row), across_heads(values, row),
                   kv.positions()[0][row]);
    }
    return;
  }
  const size_t rows = window > 0 ? window : kv.rows();
  cache.gather(layer, kv.keys(), kv.values(), last_rows(kv.heads(), kv.rows(), rows),
               kv.positions());
  if (window > 0) cache.limit(layer, window);
}

void begin_sequence(const Model& model, Sequence& sequence) {
  const ModelConfig& c = model.config();
  const CompressionOptions& options = sequence.options.compression;
  validate(options, c.cache_shape());
  require_separate_heads(model, options);
  if (observed_queries(options) == kAllQueries) {
    throw Error(ErrorCode::kInvalidArgument,
                "method " + options.method +
                    " looks at all queries of a prompt, which a stream of turns or chunks does not "
                    "keep; switch off 'acausal'");
  }
  require_repeat_prompt(options, sequence.options.repeat);
  if (sequence.options.compact_positions &&
      (options.allocation != "uniform" || options.per_query_head || keeps_layers(options) ||
       chooses_budget(options) || least_score(options))) {
    throw Error(ErrorCode::kInvalidArgument,
                "compact positions need the same number of tokens in all layers and heads: use "
                "the allocation uniform, one selection per KV head, keep no layer whole "
                "(skip_layers 0), let no layer choose its budget (tolerance 0), and drop none by "
                "its score alone (threshold none)");
  }
  if (sequence.options.compact_positions && refits(options)) {
    throw Error(ErrorCode::kInvalidArgument,
                "refit lets kept tokens stand for others at their distances, which compact "
                "positions change; use one of both");
  }
  CompressionOptions decoding = options;
  decoding.budget = sequence.decode_budget();
  try {
    validate(decoding, c.cache_shape());
  } catch (const Error& e) {
    if (sequence.options.decode_budget == 0) throw;
    throw Error(e.code(), fmt::format("while tokens are decoded: {}", e.what()));
  }
  sequence.layers.resize(c.layers);
  sequence.cache = KvCache(c.layers, c.kv_heads, c.key_dim, c.value_dim, sequence.options.kv_type);
}

void renumber_windows(const Model& model, Workspace& workspace, Sequence& sequence, size_t added) {
  if (!sequence.options.compact_positions) return;
  const ModelConfig& c = model.config();
  KvCache& cache = sequence.cache;
  LayerKv& kv = workspace.evicted;
  for (size_t layer = 0; layer < c.layers; ++layer) {
    const size_t window = c.windows[layer];
    if (window == 0 || cache.heads(layer).empty()) continue;
    const std::span<const int32_t> before = cache.positions(layer, 0);
    const auto last = before.empty() ? size_t{0} : static_cast<size_t>(before.back());
    if (last + added < c.context_length + window) continue;
    kv.begin(c, &cache, layer, 0, 0);
    RopeTable& rope = workspace.rope_of(window);
    for (size_t h = 0; h < kv.heads(); ++h) {
      for (size_t row = 0; row < kv.rows(); ++row) {
        if (!c.rotates(layer)) continue;
        rope.move({kv.keys().row(h, row), 1, 1, kv.keys().dim},
                  static_cast<size_t>(kv.positions()[h][row]), row);
      }
    }
    cache.gather(layer, kv.keys(), kv.values(), last_rows(kv.heads(), kv.rows(), kv.rows()));
    cache.limit(layer, window);
  }
}

void evict(const Model& model, Workspace& workspace, Sequence& sequence, int budget) {
  if (!sequence.passes(budget, 0)) return;
  const Stopwatch watch;
  const ModelConfig& c = model.config();
  CompressionOptions options = sequence.options.compression;
  options.budget = budget;
  const size_t position = sequence.cache.next_position;
  LayerObserver observer(model, {&options}, 0, workspace.rope_of(0), position, true);
  LayerKv& kv = workspace.evicted;
  LayerCuts cuts(options);
  LayerRefits refits(options, cuts.come_again());
  for (size_t layer = 0; layer < c.layers; ++layer) {
    if (c.windows[layer] > 0) continue;
    kv.begin(c, &sequence.cache, layer, 0, position);
    observer.begin_layer(kv.rows(), kv.prefix(), &sequence.layers[layer]);
    with_model_path(model, [&] {
      keep_layer(model, workspace, sequence, options, cuts, refits, layer, 0, kv, observer);
    });
  }
  finish_layers(c, sequence, refits, budget, 0);
  sequence.compress_seconds += watch.seconds();
}

void evict_if_due(const Model& model, Workspace& workspace, Sequence& sequence) {
  if (!sequence.eviction_due()) return;
  evict(model, workspace, sequence, sequence.decode_budget());
}

SequenceSink::SequenceSink(const Model& model, Workspace& workspace, Sequence& sequence,
                           size_t added)
    : model_(model),
      workspace_(&workspace),
      sequence_(sequence),
      added_(added),
      cuts_(sequence.options.compression),
      refits_(sequence.options.compression, cuts_.come_again()) {
  renumber_windows(model, workspace, sequence, added);
}

std::vector<RepeatFeed> SequenceSink::feeds(std::span<const int32_t> tokens) const {
  const SessionOptions& options = sequence_.options;
  // Nothing of it is ever chosen: it stays as answers do.
  if (sequence_.has_room_for(added_)) return {};
  // `begin_sequence` requires the words.
  return repeat_feeds(tokens, repeat_pass(options.compression), *options.repeat,
                      sequence_.tokens == 0);
}

void SequenceSink::take(size_t layer, LayerKv& kv, LayerObserver& observer) {
  const Stopwatch watch;
  keep_layer(model_, *workspace_, sequence_, sequence_.options.compression, cuts_, refits_, layer,
             added_, kv, observer);
  sequence_.compress_seconds += watch.seconds();
}

void SequenceSink::finish() {
  const Stopwatch watch;
  finish_layers(model_.config(), sequence_, refits_, sequence_.options.compression.budget, added_);
  sequence_.compress_seconds += watch.seconds();
  sequence_.tokens += added_;
}

}  // namespace restkv
