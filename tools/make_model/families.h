#pragma once

#include <string_view>

namespace restkv {

/// Properties of a family's GGUF files beyond the common tensors.
struct Family {
  std::string_view architecture;  ///< `general.architecture`, and prefix of the keys.
  bool qkv_bias = false;
  bool qk_norm = false;       ///< A norm over each head's query and key.
  bool post_norms = false;    ///< Norms after attention and after the feed-forward network.
  bool fused = false;         ///< One matrix for Q, K and V, one for gate and up.
  bool scaled_input = false;  ///< Embeddings are multiplied by sqrt(width).
  bool head_keys = false;     ///< Files state head sizes even if they are width / heads.
  bool always_tied = false;   ///< libllama reads no `output.weight`.
};

/// Throws Error (kInvalidArgument) that lists the known families.
const Family& find_family(std::string_view architecture);

}  // namespace restkv
