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
};

/// Layers with a sliding window of W positions.
enum class Windows {
  kNone,  ///< None, even if the file gives W.
  kAll,   ///< All, if the file gives W.
  kMost,  ///< All but every `window_period`-th, if W is given here or by the file.
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
  bool qk_norms = false;          ///< RMS norm of every query and key head, before RoPE.
  bool post_norms = false;        ///< RMS norm of each block's output, before it is added.
  Windows windows = Windows::kNone;
  size_t window_period = 0;
  size_t window = 0;             ///< Default if the file gives none; 0: no windows.
  double window_rope_base = 0;   ///< RoPE base of window layers, unscaled; 0: as in other layers.
  double attention_softcap = 0;  ///< Default if the file gives none.
  double final_softcap = 0;      ///< Default if the file gives none.
  /// Number of layers of the model size whose softmax scale is 1 / sqrt(C / heads) instead of
  /// 1 / sqrt(key_dim). Files do not state it.
  size_t scale_by_width_layers = 0;
};

/// Throws `Error` (kUnsupported) that lists the known architectures.
const Architecture& find_architecture(std::string_view name);

}  // namespace restkv
