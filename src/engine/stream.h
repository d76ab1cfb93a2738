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
  ///
  /// Layers with a sliding window keep their numbers: only distances within the window matter to
  /// them, and so they compute the same with and without. They are numbered anew when their
  /// positions would pass context + window.
  bool compact_positions = false;
  /// Tokens per head that a layer of average budget holds.
  size_t held = 0;

  /// What must not pass the budget: the tokens held or, where they are numbered anew, the positions
  /// given away, which are more if a method cut deeper than it had to.
  [[nodiscard]] size_t filled() const {
    return compact_positions ? request.cache.next_position : held;
  }
  /// Whether the cache must be cut once `added` tokens have joined it.
  [[nodiscard]] bool compressing(size_t added) const {
    return cuts() && filled() + added > static_cast<size_t>(request.options.budget);
  }
  /// Whether the cache is ever cut.
  [[nodiscard]] bool cuts() const { return request.options.method != "full"; }
};

/// The last `count` of n rows, for every head.
Selection last_rows(size_t heads, size_t n, size_t count);

}  // namespace restkv
