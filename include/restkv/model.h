#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "restkv/compress.h"

namespace restkv {

/// Sizes and constants of a model, read from its GGUF metadata.
struct ModelConfig {
  std::string architecture;
  std::string name;
  size_t layers = 0;
  size_t width = 0;  ///< Hidden size C.
  size_t query_heads = 0;
  size_t kv_heads = 0;
  size_t key_dim = 0;    ///< Per head.
  size_t value_dim = 0;  ///< Per head.
  size_t ffn_width = 0;
  size_t vocabulary = 0;
  size_t context_length = 0;  ///< Native context in tokens.
  float norm_epsilon = 0;
  float attention_scale = 0;  ///< Softmax scale.
  size_t rope_dim = 0;        ///< Rotated channels per head.
  double rope_base = 0;
  double rope_scale = 1;  ///< Positions are multiplied by this (linear scaling).
  size_t file_bytes = 0;
  std::string weight_types;  ///< For instance "Q4_1, F32".

  /// Bytes of keys and values of one token over all layers, in half precision.
  [[nodiscard]] size_t kv_bytes_per_token() const {
    return layers * kv_heads * (key_dim + value_dim) * 2;
  }
};

struct ModelWeights;

/// A model in memory-mapped GGUF form. Immutable after loading; may be shared by any number of
/// engines and threads.
class Model {
 public:
  /// Throws `Error`: kInput (missing, truncated or malformed file; the message names it),
  /// kUnsupported (architecture, tensor type or feature this version cannot run).
  explicit Model(const std::string& path);
  ~Model();

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const std::string& path() const;
  [[nodiscard]] const ModelWeights& weights() const { return *weights_; }

  /// R factors of one layer's output projection; computed at first use, then kept.
  [[nodiscard]] const OutputFactor& output_factor(size_t layer) const;

 private:
  ModelConfig config_;
  std::unique_ptr<ModelWeights> weights_;
};

}  // namespace restkv
