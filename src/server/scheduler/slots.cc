#include "server/scheduler/slots.h"

#include <algorithm>
#include <utility>

namespace restkv::server {
namespace {

size_t rows(const KvCache& cache, size_t layer) {
  size_t sum = 0;
  for (const CachedHead& head : cache.heads(layer)) sum += head.count;
  return sum;
}

}  // namespace

size_t average_kept(const ModelConfig& config, const KvCache& cache) {
  size_t sum = 0;
  size_t heads = 0;
  for (size_t layer = 0; layer < cache.layers(); ++layer) {
    if (config.windows[layer] > 0) continue;
    sum += rows(cache, layer);
    heads += cache.heads(layer).size();
  }
  return heads > 0 ? (sum + heads / 2) / heads : 0;
}

size_t most_kept(const ModelConfig& config, const KvCache& cache) {
  size_t most = 0;
  for (size_t layer = 0; layer < cache.layers(); ++layer) {
    if (config.windows[layer] > 0) continue;
    for (const CachedHead& head : cache.heads(layer)) most = std::max(most, head.count);
  }
  return most;
}

std::optional<KeptTokens> kept_tokens(const ModelConfig& config, const Session& session,
                                      std::vector<int32_t> tokens) {
  const KvCache& cache = session.cache();
  // They differ from the first time on that a cut has numbered rows anew.
  if (cache.next_position != session.tokens()) return std::nullopt;
  KeptTokens result{.tokens = std::move(tokens), .kept = {}};
  result.kept.resize(result.tokens.size());
  for (size_t layer = 0; layer < cache.layers(); ++layer) {
    if (config.windows[layer] > 0) continue;
    ++result.layers;
    result.heads = std::max(result.heads, cache.heads(layer).size());
    for (size_t head = 0; head < cache.heads(layer).size(); ++head) {
      for (const int32_t position : cache.positions(layer, head)) {
        ++result.kept[static_cast<size_t>(position)];
      }
    }
  }
  return result;
}

SlotInfo slot_of(const ModelConfig& config, const Session& session, SlotInfo::State state) {
  const KvCache& cache = session.cache();
  SlotInfo info{.state = state,
                .tokens = session.tokens(),
                .kv_bytes = cache.kept_bytes(),
                .full_kv_bytes = config.kv_bytes(session.tokens()),
                .method = session.options().compression.method,
                .budget = session.options().compression.budget};
  for (size_t layer = 0; layer < cache.layers(); ++layer) {
    const size_t heads = cache.heads(layer).size();
    info.kept.push_back(heads > 0 ? rows(cache, layer) / heads : 0);
  }
  return info;
}

}  // namespace restkv::server
