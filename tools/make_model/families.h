#pragma once

#include <string_view>

namespace restkv {

/// Properties of a family's GGUF files beyond the common tensors.
struct Family {
  std::string_view architecture;  ///< `general.architecture`, and prefix of the keys.
  bool qkv_bias = false;
  bool qk_norm = false;           ///< A norm over each head's query and key.
  bool whole_qk_norm = false;     ///< A norm over the queries of all heads, one over the keys.
  bool post_norms = false;        ///< Norms after attention and after the feed-forward network.
  bool fused = false;             ///< One matrix for Q, K and V, one for gate and up.
  bool scaled_input = false;      ///< Embeddings are multiplied by sqrt(width).
  bool head_keys = false;         ///< Files state head sizes even if they are width / heads.
  bool always_tied = false;       ///< libllama reads no `output.weight`.
  bool rope_keys = false;         ///< Files state the rotated channels even if they are all.
  bool own_expert_width = false;  ///< Files have a key for the width of experts.
  bool gated_shared_expert = false;
  bool all_biases = false;    ///< Of all matrices in the layers, router and experts included.
  bool sinks = false;         ///< `attn_sinks`: a logit for each query head.
  bool no_pre_norms = false;  ///< No norms before attention and feed-forward network.
  bool post_attention_norm = false;  ///< Name of the norm before the feed-forward network.
};

/// Throws Error (kInvalidArgument) that lists the known families.
const Family& find_family(std::string_view architecture);

}  // namespace restkv
