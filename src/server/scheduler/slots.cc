#include "server/scheduler/slots.h"

#include <algorithm>

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
