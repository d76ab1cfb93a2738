#pragma once

#include <vector>

#include "engine/layer_kv.h"
#include "engine/token_observer.h"
#include "model/forward.h"
#include "restkv/aligned.h"
#include "restkv/model.h"

namespace restkv {

/// Row `r` of every head, [heads, dim].
template <class T>
Matrix<T> across_heads(const Heads<T>& x, size_t r) {
  return {x.row(0, r), x.heads, x.dim, x.head_stride};
}

/// Working memory of a prompt.
struct PrefillMemory {
  PrefillWeights weights;       ///< Of the current layer.
  LayerKv kv;                   ///< Of the current layer.
  AlignedVector<float> hidden;  ///< [n, C]
  Activations activations;      ///< Of the current block.
};

/// Working memory of an engine, shared by its sequences. Its contents are valid during one call.
/// The memory is reused, so that decoding allocates nothing after the first token.
struct Workspace {
  explicit Workspace(const Model& model)
      : rope(model.config().rope, model.weights().rope_factors, model.weights().architecture->rope),
        window_rope(model.config().window_rope,
                    model.weights().architecture->window_rope_base > 0
                        ? std::span<const float>()
                        : model.weights().rope_factors,
                    model.weights().architecture->rope) {}

  [[nodiscard]] RopeTable& rope_of(size_t window) { return window > 0 ? window_rope : rope; }

  RopeTable rope;         // for `rope_of`
  RopeTable window_rope;  // for `rope_of`, of layers with a sliding window
  PrefillMemory prefill;  ///< Moved to a running prompt; a second prompt allocates its own.

  // For decoded tokens:
  Activations activations;
  AlignedVector<float> hidden;    // [rows, C]
  std::vector<size_t> positions;  // in the current layer, [rows]
  TokenObserver::Memory observed;
  std::vector<TokenObserver> observers;  // one per row
  std::vector<KvCache*> caches;          // one per row
  AlignedVector<float> logits;           // [rows, V]

  LayerKv evicted;  ///< The current layer of an eviction outside of a prompt.
};

}  // namespace restkv
