#pragma once

#include <span>
#include <vector>

#include "engine/layer_kv.h"
#include "engine/layer_observer.h"
#include "engine/sparse_prefill.h"
#include "model/forward.h"
#include "restkv/aligned.h"
#include "restkv/engine.h"

namespace restkv {

/// Row `r` of every head, [heads, dim].
template <class T>
Matrix<T> across_heads(const Heads<T>& x, size_t r) {
  return {x.row(0, r), x.heads, x.dim, x.head_stride};
}

/// Working memory of an engine, kept from call to call: decoding a token allocates nothing once the
/// first one has made the room that it takes.
struct Engine::State {
  explicit State(const Model& model)
      : rope(model.config().rope, model.weights().rope_factors, model.weights().architecture->rope),
        window_rope(model.config().window_rope,
                    model.weights().architecture->window_rope_base > 0
                        ? std::span<const float>()
                        : model.weights().rope_factors,
                    model.weights().architecture->rope),
        sparse(model.config()) {}

  /// For positions [0, end).
  void grow_rope(const ModelConfig& c, size_t end) {
    if (c.global_layers() > 0) rope.grow(end);
    if (c.global_layers() < c.layers) window_rope.grow(end);
  }

  [[nodiscard]] const RopeTable& rope_of(size_t window) const {
    return window > 0 ? window_rope : rope;
  }

  RopeTable rope;
  RopeTable window_rope;  // of layers with a sliding window
  Activations scratch;
  DenseLayer dense;
  LayerKv kv;  // of the layer that is being computed
  SparsePrefill sparse;
  AlignedVector<float> hidden;    // [n, C]
  AlignedVector<float> decoded;   // hidden states of decoded tokens, [rows, C]
  std::vector<size_t> positions;  // of decoded tokens, [rows]
  TokenObserver::Memory observer;
  std::vector<float> logits;
};

}  // namespace restkv
