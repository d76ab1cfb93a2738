#pragma once

#include <optional>
#include <vector>

#include "restkv/kv_cache.h"
#include "restkv/model.h"

namespace restkv {

/// Tokens per cache head, on average over the layers that are compressed; 0 if there are none.
double tokens_held(const KvCache& cache, const ModelConfig& config);
/// The same of each layer; none of those with a sliding window.
std::vector<std::optional<double>> kept_of_layers(const KvCache& cache, const ModelConfig& config);

}  // namespace restkv
