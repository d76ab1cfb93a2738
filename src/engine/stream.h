#pragma once

#include <cstddef>
#include <vector>

#include "engine/layer_observer.h"
#include "restkv/engine.h"

namespace restkv {

/// A cache that goes on: what later compressions need to know of the tokens that made it.
struct CacheStream {
  CacheRequest request;
  std::vector<LayerMemory> layers;
  /// After a compression the kept tokens are numbered anew, 0, 1, ..., so that positions stay
  /// within the model's context however long the stream is. Needs a uniform allocation.
  bool compact_positions = false;
  /// Tokens per head that a layer of average budget holds.
  size_t held = 0;

  /// Whether the cache must be cut once `added` tokens have joined it.
  [[nodiscard]] bool compressing(size_t added) const {
    return held + added > static_cast<size_t>(request.options.budget) &&
           request.options.method != "full";
  }
};

/// The last `count` of n rows, for every head.
Selection last_rows(size_t heads, size_t n, size_t count);

}  // namespace restkv
