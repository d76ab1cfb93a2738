#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "restkv/attention.h"
#include "restkv/compress.h"
#include "restkv/precision.h"

namespace restkv {

/// Rotary position embedding (Su et al. 2021) and its scaling beyond the trained context.
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
  double beta_fast = 32;        ///< YaRN: with more turns in the original context, undivided.
  double beta_slow = 1;         ///< YaRN: with fewer turns, divided by the whole `factor`.
  double magnitude = 1;         ///< cos and sin are multiplied by this.
};

/// A mixture of experts in place of the feed-forward network of every layer.
struct ExpertsConfig {
  size_t count = 0;         ///< Experts of a layer; 0: the networks are dense.
  size_t used = 0;          ///< Experts that compute a token.
  size_t width = 0;         ///< Hidden channels of an expert.
  size_t shared_width = 0;  ///< Those of the expert that computes all tokens; 0: there is none.
  bool normalised = false;  ///< Weights are a softmax over the chosen experts, otherwise over all.
  float scale = 1;          ///< Weights are multiplied by this.
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
  size_t ffn_width = 0;  ///< Hidden channels of the network that computes all tokens; 0: none.
  ExpertsConfig experts;
  size_t vocabulary = 0;
  size_t context_length = 0;  ///< Context in tokens, RoPE scaling included.
  float norm_epsilon = 0;
  float embedding_scale = 1;    ///< Embeddings are multiplied by this.
  float residual_scale = 1;     ///< What a layer adds to the hidden state is multiplied by this.
  float logit_divisor = 1;      ///< The logits of the vocabulary are divided by this.
  float attention_scale = 0;    ///< Softmax scale.
  float attention_softcap = 0;  ///< c in c * tanh(logit / c) of the attention; 0: none.
  float final_softcap = 0;      ///< The same for the logits of the vocabulary.
  RopeConfig rope;
  RopeConfig window_rope;   ///< Of layers with a sliding window.
  size_t still_period = 0;  ///< Every so many layers one has no rotary embedding; 0: all have one.
  std::vector<size_t> windows;  ///< [layers]: positions a layer sees; 0: all before it.
  size_t file_bytes = 0;
  std::string weight_types;   ///< For instance "Q4_1, F32".
  size_t weights = 0;         ///< Numbers in all tensors.
  size_t active_weights = 0;  ///< Of these, those in experts that a token does not use left out.
  /// Tells models apart whose sessions and calibrations cannot be exchanged: a hash of the
  /// description and of parts of the file, the same for any copy of it.
  uint64_t fingerprint = 0;

  /// Whether a layer has a rotary embedding.
  [[nodiscard]] bool rotates(size_t layer) const {
    return still_period == 0 || (layer + 1) % still_period != 0;
  }
  /// Number of layers that see the whole context and whose cache is compressed. The others keep
  /// their sliding window only.
  [[nodiscard]] size_t global_layers() const;
  /// Number of these before `layer`.
  [[nodiscard]] size_t global_layers_before(size_t layer) const;
  /// Shape of the model for `validate`.
  [[nodiscard]] CacheShape cache_shape() const;
  /// Bytes of keys and values in half precision over all layers, after `tokens` tokens of which
  /// global layers keep `kept` (a budget). Layers with a sliding window keep at most their window.
  [[nodiscard]] size_t kv_bytes(size_t tokens, size_t kept) const;
  [[nodiscard]] size_t kv_bytes(size_t tokens) const { return kv_bytes(tokens, tokens); }
};

class Communicator;

/// Settings of a model that its file does not decide.
struct ModelOptions {
  /// "linear" (positions divided by the factor), "ntk" (a larger RoPE base, base * factor^(d / (d -
  /// 2))) or "yarn" (Peng et al. 2023); empty: the scaling of the file.
  std::string rope_scaling;
  double rope_factor = 1;  ///< Factor of the context length; above 1, at most 1024.
  LinearPrecision linear = LinearPrecision::kF32;
  AttentionPrecision attention = AttentionPrecision::kF32;
  /// Processes that share the model: each computes some of the heads and channels, and the
  /// configuration of a model counts its own. Null: this one has all. It must outlive the model.
  Communicator* communicator = nullptr;
};

struct ModelWeights;

/// A model in a memory-mapped GGUF file. It is immutable after loading and may be shared by any
/// number of engines and threads.
class Model {
 public:
  /// Throws `Error`: kInput (missing, truncated or malformed file; the message names it),
  /// kUnsupported (an architecture, tensor type or feature that this version cannot run, or a
  /// precision that this processor has no instructions for), kInvalidArgument (options out of
  /// range).
  explicit Model(const std::string& path, const ModelOptions& options = {});
  ~Model();

  [[nodiscard]] const ModelConfig& config() const { return config_; }
  [[nodiscard]] const std::string& path() const;
  /// Its sizes and rotary embedding in words, for messages.
  [[nodiscard]] std::string description() const;
  [[nodiscard]] LinearPrecision linear_precision() const;
  [[nodiscard]] AttentionPrecision attention_precision() const;
  [[nodiscard]] const ModelWeights& weights() const { return *weights_; }

  /// R factors of one layer's output projection; computed at first use, then cached. Thread-safe.
  [[nodiscard]] const OutputFactor& output_factor(size_t layer) const;

 private:
  ModelConfig config_;
  std::unique_ptr<ModelWeights> weights_;
};

}  // namespace restkv
