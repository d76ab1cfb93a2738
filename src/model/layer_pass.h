#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "linear/prompt_weight.h"
#include "model/ops.h"
#include "model/router.h"
#include "model/weights.h"
#include "restkv/aligned.h"
#include "restkv/model.h"
#include "restkv/views.h"

namespace restkv {

/// One layer's matrices in the precision of prompts, converted once per prompt for all its tokens.
/// The router is always in float32: a rounded one would choose other experts.
struct PrefillWeights {
  PromptWeight qkv, output, gate_up, down, router;

  void make(const LayerWeights& layer, LinearPrecision precision);
};

/// Activations of one block of tokens.
struct Activations {
  AlignedVector<float> normed, qkv, attended, projected, gate_up;

  // Of experts:
  AlignedVector<float> router_logits, expert_input, expert_gate_up, expert_output;
  Routing routing;
  std::vector<RowsOfLinear> expert_rows;
  PromptWeight converted_expert;  ///< One of its matrices, for those with many rows.
};

/// Room for [rows, cols] in `storage`, whose memory is reused between calls.
inline Matrix<float> room(AlignedVector<float>& storage, size_t rows, size_t cols) {
  if (storage.size() < rows * cols) storage.resize(rows * cols);
  return {storage.data(), rows, cols};
}

/// Parameters of a block of tokens in a layer.
struct LayerPass {
  const Model& model;
  size_t layer;
  /// The layer's converted matrices; null: products in the stored types, by the method `stored`.
  const PrefillWeights* prefill_weights;
  StoredProduct stored;
  RopeTable& rope;
  Activations& activations;

  [[nodiscard]] const ModelConfig& config() const { return model.config(); }
  [[nodiscard]] const LayerWeights& weights() const { return model.weights().layers[layer]; }
  [[nodiscard]] Communicator& communicator() const { return *model.weights().communicator; }

  /// y [n, R] = x [n, C] times a matrix of the layer, plus its bias.
  void multiply(Matrix<const float> x, Linear LayerWeights::*matrix,
                PromptWeight PrefillWeights::*prefill_matrix, Matrix<float> y) const {
    const Linear& linear = weights().*matrix;
    if (prefill_weights != nullptr) {
      (prefill_weights->*prefill_matrix).multiply(x, y);
    } else {
      linear.multiply_stored(x, y, stored);
    }
    if (!linear.bias().empty()) add_bias(y, linear.bias());
  }
};

}  // namespace restkv
