#pragma once

#include <cstddef>
#include <span>

#include "engine/layer_state.h"
#include "model/ops.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/compress.h"
#include "restkv/model.h"
#include "restkv/views.h"

namespace restkv {

/// Undoes the rotary embedding of queries [heads, rows, d] at positions from `position` on; the
/// result is in `memory`.
Heads<const float> unrotated(Heads<const float> queries, RopeTable& rope, size_t position,
                             AlignedVector<float>& memory);

/// Collects the inputs of a sequence's method from one decoded token, as `LayerObserver` does for a
/// prompt, and adds them to the state of the layers.
class TokenObserver {
 public:
  /// Scratch buffers, reused between tokens.
  struct Memory {
    AlignedVector<float> unrotated, weights;
  };

  /// `options` belong to the sequence of these layers; the token has position `position`.
  TokenObserver(const Model& model, const CompressionOptions& options, std::span<LayerState> layers,
                RopeTable& rope, size_t position, Memory& memory);

  /// Adds the token's queries [query_heads, 1, d].
  void add_query(size_t layer, Heads<const float> query);
  /// Destination of the weights of `decode_attention` over these heads; empty if not needed.
  Matrix<float> weights(size_t layer, std::span<const CachedHead> heads);
  /// Shows the token to a method that watches all tokens, when it is in the cache with these
  /// `heads`: its queries [query_heads, 1, d] and what the layer's attention reads, [1, C].
  void watch(size_t layer, std::span<const CachedHead> heads, Heads<const float> query,
             Matrix<const float> inputs);
  /// Adds the weights.
  void add_weights(size_t layer, std::span<const CachedHead> heads, Matrix<const float> weights);

 private:
  const ModelConfig& config_;
  std::span<LayerState> layers_;
  RopeTable& rope_;
  size_t position_;
  size_t observed_;
  bool sums_;
  bool query_statistics_;
  const CompressionOptions* watched_for_;  ///< Null: the method watches no decoded tokens.
  Memory& memory_;
};

}  // namespace restkv
