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

/// What a prompt needs until its last layer is done.
struct PrefillMemory {
  PrefillWeights weights;       ///< Of the layer that is being computed.
  LayerKv kv;                   ///< Of the same.
  AlignedVector<float> hidden;  ///< [n, C]
};

/// What an engine works in, whichever sequence the tokens belong to. Nothing in it outlives the
/// call that uses it but its memory: decoding a token allocates nothing once the first one has made
/// the room that it takes.
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
  RopeTable window_rope;  // the same, of layers with a sliding window
  Activations activations;
  PrefillMemory prefill;  ///< Lent to a prompt on its way; another one then has its own.

  // Of decoded tokens.
  AlignedVector<float> hidden;    // [rows, C]
  std::vector<size_t> positions;  // in the layer at hand, [rows]
  TokenObserver::Memory observed;
  std::vector<TokenObserver> observers;  // one per row
  std::vector<KvCache*> caches;          // the same
  AlignedVector<float> logits;           // [rows, V]

  LayerKv evicted;  ///< The layer of a cache that is being cut outside of a prompt.
};

}  // namespace restkv
