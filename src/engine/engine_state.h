#pragma once

#include <fmt/format.h>

#include <span>
#include <vector>

#include "engine/layer_kv.h"
#include "engine/layer_observer.h"
#include "engine/sparse_prefill.h"
#include "model/forward.h"
#include "restkv/aligned.h"
#include "restkv/engine.h"
#include "restkv/error.h"

namespace restkv {

/// Row `r` of every head, [heads, dim].
template <class T>
Matrix<T> across_heads(const Heads<T>& x, size_t r) {
  return {x.row(0, r), x.heads, x.dim, x.head_stride};
}

/// Runs a step that stores or compares keys and values. What is wrong with them comes from the
/// weights: the message is to name their file.
template <class Step>
void naming_the_file(const Model& model, const Step& step) {
  try {
    step();
  } catch (const Error& e) {
    if (e.code() != ErrorCode::kInput) throw;
    throw Error(e.code(), fmt::format("{}: {}", model.path(), e.what()));
  }
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

  [[nodiscard]] RopeTable& rope_of(size_t window) { return window > 0 ? window_rope : rope; }

  RopeTable rope;         // for `rope_of`
  RopeTable window_rope;  // the same, of layers with a sliding window
  Activations scratch;
  DenseLayer dense;
  LayerKv kv;  // of the layer that is being computed
  SparsePrefill sparse;
  AlignedVector<float> hidden;    // [n, C]
  AlignedVector<float> decoded;   // hidden states of decoded tokens, [rows, C]
  std::vector<size_t> positions;  // of decoded tokens in the layer at hand, [rows]
  TokenObserver::Memory observer;
  std::vector<float> logits;
};

}  // namespace restkv
