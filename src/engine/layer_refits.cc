#include "engine/layer_refits.h"

#include <algorithm>
#include <utility>

#include "base/threads.h"
#include "restkv/aligned.h"

namespace restkv {
namespace {

/// How many of the last `most` tokens before position `next` are the last rows of all heads of a
/// part. A method may have evicted some of them.
size_t last_tokens_held(const LayerKv& kv, const LayerKv::Part& part, size_t next, size_t most) {
  for (size_t h = part.head; h < part.head + part.heads; ++h) {
    const auto positions = std::span(kv.positions()[h]).subspan(part.padding);
    size_t held = 0;
    while (held < std::min(most, positions.size()) &&
           positions[positions.size() - 1 - held] == static_cast<int32_t>(next - 1 - held)) {
      ++held;
    }
    most = held;
  }
  return most;
}

}  // namespace

void LayerRefits::take(KvCache& cache, size_t layer, size_t cache_heads, const LayerKv& kv,
                       std::span<const LayerObservation> parts, size_t next) {
  const size_t repeat = cache_heads / kv.heads();
  Layer taken{layer, {}};
  for (size_t i = 0; i < parts.size(); ++i) {
    const LayerKv::Part& part = kv.parts()[i];
    LayerObservation observation = parts[i];
    if (options_.refit == Refit::kWindow) {
      const auto window = static_cast<size_t>(options_.window);
      const size_t count =
          last_tokens_held(kv, part, next, std::min(window, observation.queries.rows));
      observation.queries = observation.queries.slice_rows(observation.queries.rows - count, count);
    }
    Part& to =
        taken.parts.emplace_back(Part{refit_targets(observation, options_), part.head * repeat,
                                      part.heads * repeat, observation.keys.rows});
    for (size_t j = 0; j < to.targets.positions.size(); ++j) {
      to.targets.positions[j] = static_cast<int32_t>(next - to.targets.count + j);
    }
  }
  if (waits_) {
    waiting_.push_back(std::move(taken));
    return;
  }
  refit(cache, taken);
  cache.close(layer);
}

void LayerRefits::finish(KvCache& cache) {
  for (Layer& layer : waiting_) {
    refit(cache, layer);
    cache.close(layer.layer);
    layer.parts.clear();
  }
  waiting_.clear();
}

void LayerRefits::refit(KvCache& cache, const Layer& layer) const {
  for (const Part& part : layer.parts) {
    const RefitTargets& targets = part.targets;
    if (targets.count == 0) continue;
    const size_t group = targets.query_heads / part.heads;
    parallel_for(part.heads, [&](size_t i, size_t) {
      const size_t head = part.head + i;
      const std::span<const int32_t> positions = cache.positions(layer.layer, head);
      const size_t t = positions.size();
      if (t == 0 || t == part.rows) return;  // nothing is left, or nothing is missing
      AlignedVector<float> keys(t * targets.dim), values(t * targets.value_dim);
      const Matrix<float> k(keys.data(), t, targets.dim);
      const Matrix<float> v(values.data(), t, targets.value_dim);
      cache.read(layer.layer, head, k, v);
      const RefittedRows rows = refit_rows(
          targets, i * group, group, {k, v, positions, cache.bias(layer.layer, head)}, options_);
      cache.refit(layer.layer, head, {rows.values.data(), t, targets.value_dim}, rows.bias);
    });
  }
}

}  // namespace restkv
