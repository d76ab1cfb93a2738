#include "engine/kept_tokens.h"

namespace restkv {

double tokens_held(const KvCache& cache, const ModelConfig& config) {
  double sum = 0;
  size_t layers = 0;
  for (const std::optional<double>& kept : kept_of_layers(cache, config)) {
    if (!kept) continue;
    sum += *kept;
    ++layers;
  }
  return layers > 0 ? sum / static_cast<double>(layers) : 0;
}

std::vector<std::optional<double>> kept_of_layers(const KvCache& cache, const ModelConfig& config) {
  std::vector<std::optional<double>> layers(cache.layers());
  for (size_t layer = 0; layer < cache.layers(); ++layer) {
    const auto heads = cache.heads(layer);
    if (config.windows[layer] > 0 || heads.empty()) continue;
    size_t rows = 0;
    for (const CachedHead& head : heads) rows += head.count;
    layers[layer] = static_cast<double>(rows) / static_cast<double>(heads.size());
  }
  return layers;
}

}  // namespace restkv
