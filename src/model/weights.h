#pragma once

#include <memory>
#include <mutex>
#include <vector>

#include "linear/linear.h"
#include "model/architecture.h"
#include "model/gguf_file.h"
#include "restkv/compress.h"
#include "restkv/model.h"

namespace restkv {

/// Weights of one transformer layer in their stored types.
struct LayerWeights {
  std::vector<float> attention_norm;        // [C]
  Linear qkv;                               // [H*d + G*d + G*dv, C]
  std::vector<float> query_norm, key_norm;  // [d], or empty
  Linear output;                            // [C, H*dv]
  std::vector<float> attention_post_norm;   // [C], or empty
  std::vector<float> ffn_norm;              // [C]
  Linear gate_up;                           // [2*F, C]
  Linear down;                              // [C, F]
  std::vector<float> ffn_post_norm;         // [C], or empty

  mutable std::once_flag output_factor_made;
  mutable OutputFactor output_factor;
};

/// Calls f(matrix) for every matrix of a layer, in the order of their use.
template <class Layer, class Function>
void for_each_linear(Layer& layer, const Function& f) {
  f(layer.qkv);
  f(layer.output);
  f(layer.gate_up);
  f(layer.down);
}

struct ModelWeights {
  explicit ModelWeights(const std::string& path) : file(path) {}

  GgufFile file;
  const Architecture* architecture = nullptr;
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
