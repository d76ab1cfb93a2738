#pragma once

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "linear/linear.h"
#include "model/architecture.h"
#include "model/communicator.h"
#include "model/gguf_file.h"
#include "restkv/compress.h"
#include "restkv/model.h"

namespace restkv {

/// A layer's mixture of experts in their stored types.
struct ExpertWeights {
  Linear router;                   // [E, C]
  std::vector<Linear> gate_up;     // [E] of [2*F, C]
  std::vector<Linear> down;        // [E] of [C, F]
  std::vector<float> shared_gate;  // [C], or empty: weighs the shared expert of each token
};

/// Weights of one transformer layer in their stored types.
struct LayerWeights {
  std::vector<float> attention_norm;        // [C], or empty
  Linear qkv;                               // [H*d + G*d + G*dv, C]
  std::vector<float> query_norm, key_norm;  // [d] or [heads * d], or empty
  std::vector<float> sink_logits;           // [H], or empty: see AttentionOptions
  Linear output;                            // [C, H*dv]
  std::vector<float> attention_post_norm;   // [C], or empty
  std::vector<float> ffn_norm;              // [C], or empty
  Linear gate_up;                           // [2*F, C]; with experts the shared one's, or empty
  Linear down;                              // [C, F]; likewise
  std::optional<ExpertWeights> experts;
  std::vector<float> ffn_post_norm;  // [C], or empty

  mutable std::once_flag output_factor_made;
  mutable OutputFactor output_factor;
};

/// Calls f(matrix) for every matrix of a layer that all tokens meet, in the order of their use.
template <class Layer, class Function>
void for_each_linear(Layer& layer, const Function& f) {
  f(layer.qkv);
  f(layer.output);
  f(layer.gate_up);
  f(layer.down);
  if (layer.experts) f(layer.experts->router);
}

struct ModelWeights {
  explicit ModelWeights(const std::string& path) : file(path) {}

  GgufFile file;
  const Architecture* architecture = nullptr;
  Communicator* communicator = &single_process();  // those who have the rest of narrowed weights
  LinearPrecision linear = LinearPrecision::kF32;  // of prompts
  AttentionPrecision attention = AttentionPrecision::kF32;
  size_t prefill_gemm_min_rows = kPrefillGemmMinRows;  // shortest prompt with converted weights
  Weight token_embedding;                              // [V, C]
  std::vector<LayerWeights> layers;
  std::vector<float> output_norm;   // [C]
  Linear lm_head;                   // [V, C]
  std::vector<float> rope_factors;  // [rope_dim / 2], or empty: divisors of the frequencies
};

}  // namespace restkv
