#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "restkv/attention.h"
#include "restkv/compress.h"
#include "restkv/precision.h"

namespace restkv {

/// Rotary position embedding (Su et al. 2021) and how it is stretched beyond the trained context.
struct RopeConfig {
  enum class Scaling {
    kLinear,  ///< Positions divided by `factor` (1: as trained).
    kYarn,    ///< Low frequencies divided by `factor`, high ones kept (Peng et al. 2023).
  };
  size_t dim = 0;  ///< Rotated channels per head.
  double base = 10000;
  Scaling scaling = Scaling::kLinear;
  double factor = 1;
  size_t original_context = 0;  ///< Tokens the model was first trained with (YaRN).
  double beta_fast = 32;        ///< YaRN: turns in the original context above which ...
  double beta_slow = 1;         ///< ... nothing is divided, and below which everything is.
  double magnitude = 1;         ///< cos and sin are multiplied by this.
};

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
  float embedding_scale = 1;    ///< Embeddings are multiplied by this.
  float attention_scale = 0;    ///< Softmax scale.
  float attention_softcap = 0;  ///< c in c * tanh(logit / c) of the attention; 0: none.
  float final_softcap = 0;      ///< The same for the logits of the vocabulary.
  RopeConfig rope;
  RopeConfig window_rope;       ///< Of layers with a sliding window.
  std::vector<size_t> windows;  ///< [layers]: positions a layer sees; 0: all before it.
  size_t file_bytes = 0;
  std::string weight_types;  ///< For instance "Q4_1, F32".

  /// Layers that see the whole context: the ones whose cache is compressed. The others keep their
  /// window and no more.
  [[nodiscard]] size_t global_layers() const;
  /// What `validate` must know of the model.
  [[nodiscard]] CacheShape cache_shape() const;
  /// Bytes of the keys and values of `tokens` tokens in half precision, over all layers; layers
  /// with a sliding window hold at most that. `kept` of them in global layers (a budget).
  [[nodiscard]] size_t kv_bytes(size_t tokens, size_t kept) const;
  [[nodiscard]] size_t kv_bytes(size_t tokens) const { return kv_bytes(tokens, tokens); }
};

/// How a model is to be used, where that differs from what its file says.
struct ModelOptions {
  /// "linear" (positions divided by the factor), "ntk" (a larger RoPE base, base * factor^(d / (d -
  /// 2))) or "yarn" (Peng et al. 2023); empty: as the file says.
  std::string rope_scaling;
  double rope_factor = 1;  ///< The context becomes so many times longer; above 1, at most 1024.
  LinearPrecision linear = LinearPrecision::kF32;
  AttentionPrecision attention = AttentionPrecision::kF32;
};

struct ModelWeights;

/// A model in memory-mapped GGUF form. Immutable after loading; may be shared by any number of
/// engines and threads.
class Model {
 public:
  /// Throws `Error`: kInput (missing, truncated or malformed file; the message names it),
  /// kUnsupported (architecture, tensor type or feature this version cannot run, or a
  /// precision this processor has no instructions for), kInvalidArgument
  /// (options out of range).
  explicit Model(const std::string& path, const ModelOptions& options = {});
  ~Model();

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const std::string& path() const;
  [[nodiscard]] LinearPrecision linear_precision() const;
  [[nodiscard]] AttentionPrecision attention_precision() const;
  [[nodiscard]] const ModelWeights& weights() const { return *weights_; }

  /// R factors of one layer's output projection; computed at first use, then kept.
  [[nodiscard]] const OutputFactor& output_factor(size_t layer) const;

 private:
  ModelConfig config_;
  std::unique_ptr<ModelWeights> weights_;
};

}  // namespace restkv
