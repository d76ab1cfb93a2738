#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/layer_kv.h"
#include "restkv/compress.h"
#include "restkv/kv_cache.h"
#include "restkv/stages.h"

namespace restkv {

/// Lets the rows that the layers of a cache keep stand for the evicted ones, after their last cut.
class LayerRefits {
 public:
  /// `waits`: layers may be cut again until `finish`. `options` must outlive the object.
  LayerRefits(const CompressionOptions& options, bool waits) : options_(options), waits_(waits) {}

  /// Whether layers that are cut must be gathered open.
  [[nodiscard]] bool needed() const { return refits(options_); }

  /// Takes a layer that `cache` has just gathered, open, in `cache_heads` heads: refits and closes
  /// it, or keeps until `finish` what its rows shall stand for. `kv` has all rows, `parts` the
  /// observations of its parts; the last observed query belongs to the token before position
  /// `next`.
  void take(KvCache& cache, size_t layer, size_t cache_heads, const LayerKv& kv,
            std::span<const LayerObservation> parts, size_t next);
  /// Refits the layers that waited. They must still be open and are closed then.
  void finish(KvCache& cache);

 private:
  /// Cache heads [head, head + heads).
  struct Part {
    RefitTargets targets;
    size_t head, heads;
    size_t rows;  ///< Of each of them before the cut.
  };
  struct Layer {
    size_t layer;
    std::vector<Part> parts;
  };

  void refit(KvCache& cache, const Layer& layer) const;

  const CompressionOptions& options_;
  bool waits_;
  std::vector<Layer> waiting_;
};

}  // namespace restkv
