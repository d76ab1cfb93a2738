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

/// Queries [heads, rows, d] at positions from `position` on as they were before rotary embedding;
/// in `memory`.
Heads<const float> unrotated(Heads<const float> queries, RopeTable& rope, size_t position,
                             AlignedVector<float>& memory);

/// Gathers what the method of a sequence looks at of one decoded token, as `LayerObserver` does for
/// a prompt. The token goes through all layers at once and attends to the cache as it lies; what
/// was seen of it joins the state of the layers.
class TokenObserver {
 public:
  /// Scratch buffers, reused between tokens.
  struct Memory {
    AlignedVector<float> unrotated, weights;
  };

  /// `options` of the sequence whose layers these are; the token stands at `position`.
  TokenObserver(const Model& model, const CompressionOptions& options, std::span<LayerState> layers,
                RopeTable& rope, size_t position, Memory& memory);

  /// Takes the token's queries [query_heads, 1, d] in.
  void add_query(size_t layer, Heads<const float> query);
  /// Where `decode_attention` over these heads is to leave its weights; empty if nobody needs them.
  Matrix<float> weights(size_t layer, std::span<const CachedHead> heads);
  /// Takes them in.
  void add_weights(size_t layer, std::span<const CachedHead> heads, Matrix<const float> weights);

 private:
  const ModelConfig& config_;
  std::span<LayerState> layers_;
  RopeTable& rope_;
  size_t position_;
  size_t observed_;
  bool sums_;
  bool query_statistics_;
  Memory& memory_;
};

}  // namespace restkv
