#pragma once

#include <cstddef>
#include <string_view>

namespace restkv {

/// Which channels a rotary embedding pairs.
enum class RopeStyle {
  kNeighbours,  ///< (0, 1), (2, 3), ...: what GGUF converters store for `llama`.
  kHalves,      ///< (0, d/2), (1, d/2 + 1), ...: GPT-NeoX order.
};

/// What a feed-forward network does to its gate.
enum class Activation {
  kSilu,  ///< SwiGLU
  kGelu,  ///< GeGLU, with the tanh form of GELU
};

/// Which layers look at the last W positions only.
enum class Windows {
  kNone,  ///< None, whatever the file says.
  kAll,   ///< All, if the file gives W.
  kMost,  ///< All but every `window_period`-th, if W is given here or by the file.
};

/// A model family: what distinguishes its forward pass from the others'. Adding a family is adding
/// a row to the table in architecture.cc, and a flag here if it does something new. What a file
/// shows by itself is no flag: biases, a fused QKV, tied embeddings.
struct Architecture {
  std::string_view name;  ///< `general.architecture` of the GGUF file and prefix of its keys.
  std::string_view families;
  RopeStyle rope = RopeStyle::kHalves;
  Activation activation = Activation::kSilu;
  bool fused_gate = false;        ///< `ffn_up` holds gate and up, one above the other.
  bool scaled_embedding = false;  ///< Embeddings are multiplied by sqrt(C).
  bool qk_norms = false;          ///< RMS norm of every query and key head, before RoPE.
  bool post_norms = false;        ///< RMS norm of each block's output, before it is added.
  Windows windows = Windows::kNone;
  size_t window_period = 0;
  size_t window = 0;             ///< Where the file gives none; 0: then there are no windows.
  double window_rope_base = 0;   ///< RoPE base of window layers, unscaled; 0: RoPE as elsewhere.
  double attention_softcap = 0;  ///< Where the file gives none.
  double final_softcap = 0;      ///< Where the file gives none.
  /// Number of layers of the one size whose softmax scale is 1 / sqrt(C / heads), not
  /// 1 / sqrt(key_dim): the files do not say so.
  size_t scale_by_width_layers = 0;
};

/// Throws `Error` (kUnsupported) that lists the known architectures.
const Architecture& find_architecture(std::string_view name);

}  // namespace restkv
