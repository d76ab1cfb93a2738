#include "engine/token_observer.h"

#include <algorithm>
#include <vector>

#include "base/threads.h"

namespace restkv {

namespace {

size_t longest(std::span<const CachedHead> heads) {
  size_t rows = 0;
  for (const CachedHead& head : heads) rows = std::max(rows, head.count);
  return rows;
}

}  // namespace

Heads<const float> unrotated(Heads<const float> queries, RopeTable& rope, size_t position,
                             AlignedVector<float>& memory) {
  memory.resize(queries.heads * queries.rows * queries.dim);
  const Heads<float> rows(memory.data(), queries.heads, queries.rows, queries.dim);
  parallel_for(queries.heads, [&](size_t h, size_t) {
    for (size_t r = 0; r < queries.rows; ++r) {
      std::copy_n(queries.row(h, r), queries.dim, rows.row(h, r));
    }
  });
  rope.rotate_back(rows, position);
  return rows;
}

TokenObserver::TokenObserver(const Model& model, const CompressionOptions& options,
                             std::span<LayerState> layers, RopeTable& rope, size_t position,
                             Memory& memory)
    : config_(model.config()),
      layers_(layers),
      rope_(rope),
      position_(position),
      observed_(observed_queries(options)),
      sums_(needs_attention_sums(options)),
      query_statistics_(needs_query_statistics(options) &&
                        position >= static_cast<size_t>(options.sinks)),
      watched_for_(watched_tokens(options) == WatchedTokens::kAll ? &options : nullptr),
      memory_(memory) {}

void TokenObserver::add_query(size_t layer, Heads<const float> query) {
  if (config_.windows[layer] > 0) return;
  LayerState& memory = layers_[layer];
  if (observed_ > 0) {
    const Heads<float> room = memory.make_room(query.heads, query.dim, observed_ - 1, 1);
    for (size_t h = 0; h < query.heads; ++h)
      std::copy_n(query.row(h, 0), query.dim, room.row(h, 0));
  }
  if (query_statistics_) {
    if (memory.statistics.empty()) memory.statistics.emplace_back(query.heads, query.dim);
    memory.statistics[0].add(
        config_.rotates(layer) ? unrotated(query, rope_, position_, memory_.unrotated) : query);
  }
}

void TokenObserver::watch(size_t layer, std::span<const CachedHead> heads, Heads<const float> query,
                          Matrix<const float> inputs) {
  if (watched_for_ == nullptr || config_.windows[layer] > 0) return;
  std::vector<RowValues>& watched = layers_[layer].watched;
  if (watched.empty()) watched.push_back(nothing_watched());
  watched[0].resize(config_.query_heads, longest(heads));
  const Matrix<float> numbers = watched[0].all();
  find_method(watched_for_->method)
      .watch({.queries = query,
              .inputs = inputs,
              .own_keys = {nullptr, heads.size(), 0, config_.key_dim},
              .own_values = {nullptr, heads.size(), 0, config_.value_dim},
              .keys = {nullptr, heads.size(), 0, config_.key_dim},
              .values = {nullptr, heads.size(), 0, config_.value_dim},
              .begin = 0,
              .end = 1,
              .layer = config_.global_layers_before(layer)},
             *watched_for_, {numbers.data + numbers.cols - 1, numbers.rows, 1, numbers.stride});
}

Matrix<float> TokenObserver::weights(size_t layer, std::span<const CachedHead> heads) {
  if (!sums_ || config_.windows[layer] > 0) return {};
  const size_t rows = longest(heads);
  memory_.weights.resize(config_.query_heads * rows);
  return {memory_.weights.data(), config_.query_heads, rows};
}

void TokenObserver::add_weights(size_t layer, std::span<const CachedHead> heads,
                                Matrix<const float> weights) {
  if (weights.data == nullptr) return;
  RowValues& sums = layers_[layer].sums;
  sums.resize(weights.rows, weights.cols);
  const size_t group = weights.rows / heads.size();
  for (size_t h = 0; h < weights.rows; ++h) {
    const size_t count = heads[h / group].count;
    const float* in = weights.row(h);
    float* out = sums.all().row(h) + (weights.cols - count);
    for (size_t i = 0; i < count; ++i) out[i] += in[i];
  }
}

}  // namespace restkv
