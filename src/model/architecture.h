#pragma once

#include <cstddef>
#include <string_view>

namespace restkv {

/// Pairs of channels of a rotary embedding.
enum class RopeStyle {
  kNeighbours,  ///< (0, 1), (2, 3), ...: the order of GGUF converters for `llama`.
  kHalves,      ///< (0, d/2), (1, d/2 + 1), ...: GPT-NeoX order.
};

/// Activation of the gate of a feed-forward network.
enum class Activation {
  kSilu,  ///< SwiGLU
  kGelu,  ///< GeGLU, with the tanh form of GELU
  /// g sigmoid(1.702 g) (u + 1) for g up to 7 and u within -7 and 7 (gpt-oss)
  kClampedSilu,
};

/// Layers with a sliding window of W positions.
enum class Windows {
  kNone,  ///< None, even if the file gives W.
  kAll,   ///< All, if the file gives W.
  kMost,  ///< All but every `window_period`-th, if W is given here or by the file.
};

/// Norms of queries and keys before RoPE.
enum class QkNorms {
  kNone,
  kHeads,  ///< RMS norm of every head.
  kRows,   ///< RMS norm of all heads of a token together.
};

/// Mixtures of experts in place of the feed-forward networks.
enum class Experts {
  kNone,
  kWhereGiven,  ///< If the file gives their number.
  kAlways,
};

/// The expert that computes all tokens beside the chosen ones.
enum class SharedExpert {
  kNone,
  kWhereGiven,  ///< If the file gives its width.
  kGated,       ///< Always, weighed for each token by a sigmoid.
};

/// A model family: the properties of its forward pass. A new family is a row in the table of
/// architecture.cc, and a flag here if its forward pass has something new. Biases, a fused QKV and
/// tied embeddings need no flag, because they show in the file.
struct Architecture {
  std::string_view name;  ///< `general.architecture` of the GGUF file and prefix of its keys.
  std::string_view families;
  RopeStyle rope = RopeStyle::kHalves;
  Activation activation = Activation::kSilu;
  bool fused_gate = false;        ///< `ffn_up` holds gate and up, stacked.
  bool scaled_embedding = false;  ///< Embeddings are multiplied by sqrt(C).
  QkNorms qk_norms = QkNorms::kNone;
  /// RMS norms before attention and feed-forward network.
  bool pre_norms = true;
  std::string_view ffn_norm = "ffn_norm";  ///< Name of the norm before the feed-forward network.
  bool sinks = false;                      ///< Every query head has a sink: see `AttentionOptions`.
  bool post_norms = false;                 ///< RMS norm of each block's output, before it is added.
  Windows windows = Windows::kNone;
  size_t window_period = 0;
  size_t window = 0;               ///< Default if the file gives none; 0: no windows.
  size_t still_period = 0;         ///< See `ModelConfig::still_period`.
  bool plain_window_rope = false;  ///< RoPE of window layers is not stretched.
  double window_rope_base = 0;     ///< RoPE base of window layers, unscaled; 0: as in other layers.
  double attention_softcap = 0;    ///< Default if the file gives none.
  double final_softcap = 0;        ///< Default if the file gives none.
  /// Number of layers of the model size whose softmax scale is 1 / sqrt(C / heads) instead of
  /// 1 / sqrt(key_dim). Files do not state it.
  size_t scale_by_width_layers = 0;
  /// Embeddings, residuals and logits are multiplied or divided by numbers of the file.
  bool multipliers = false;
  Experts experts = Experts::kNone;
  bool normalised_experts = true;  ///< See `ExpertsConfig::normalised`.
  bool own_expert_width = false;   ///< Of `expert_feed_forward_length`, not `feed_forward_length`.
  SharedExpert shared_expert = SharedExpert::kNone;
};

/// Throws `Error` (kUnsupported) that lists the known architectures.
const Architecture& find_architecture(std::string_view name);

}  // namespace restkv
