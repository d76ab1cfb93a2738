#include "model/missing_features.h"

#include <algorithm>
#include <array>

#include "restkv/error.h"

namespace restkv {
namespace {

struct Sign {
  std::string_view what;  ///< Key behind the architecture's name, part of a tensor's name, or name.
  std::string_view feature;
};

constexpr std::string_view kState = "a recurrent state (state space, gated DeltaNet)";
constexpr std::string_view kConvolutions = "short convolutions";
constexpr std::string_view kLatent = "latent attention (MLA)";
constexpr std::string_view kEncoder = "an encoder (attention to later tokens)";
constexpr std::string_view kSides = "attention and feed-forward network side by side";
constexpr std::string_view kLayerNorms = "layer norms instead of RMS norms";
constexpr std::string_view kAxes = "positions along several axes";

/// Of keys that begin so and hold another number than 0, or anything else.
constexpr std::array kKeys{
    Sign{".ssm.", kState},
    Sign{".wkv.", "a recurrent state (RWKV)"},
    Sign{".shortconv.", kConvolutions},
    Sign{".attention.kv_lora_rank", kLatent},
    Sign{".attention.shared_kv_layers", "layers that share keys and values"},
    Sign{".attention.max_alibi_bias", "ALiBi"},
    Sign{".attention.clamp_kqv", "clamped queries, keys and values"},
    Sign{".attention.layer_norm_epsilon", kLayerNorms},
    Sign{".rope.dimension_sections", kAxes},
    Sign{".use_parallel_residual", kSides},
    Sign{".nextn_predict_layers", "layers that predict further tokens"},
    Sign{".decoder_start_token_id", kEncoder},
    Sign{".pooling_type", kEncoder},
    Sign{".attention.temperature_length", "a softmax scale that depends on the position"},
};

constexpr std::array kTensors{
    Sign{"ssm_", kState},
    Sign{"time_mix_", "a recurrent state (RWKV)"},
    Sign{"shortconv", kConvolutions},
    Sign{"attn_kv_a_mqa", kLatent},
    Sign{"attn_gate", "gates of attention outputs"},
    Sign{"position_embd", "learned positions"},
    Sign{"output_norm.bias", kLayerNorms},
    Sign{"per_layer_token_embd", "embeddings of every layer"},
    Sign{"altup_", "alternating updates (AltUp)"},
    Sign{"enc.blk.", kEncoder},
    Sign{"v.blk.", "an encoder of images"},
};

/// What shows nowhere else.
constexpr std::array kNames{
    Sign{"command-r", kSides},
    Sign{"cohere2", kSides},
    Sign{"phi2", kSides},
    Sign{"falcon", kSides},
    Sign{"qwen2vl", kAxes},
    Sign{"qwen3vl", kAxes},
    Sign{"gemma4", "heads of different sizes in different layers"},
    Sign{"chatglm", "rotary positions in half of every head"},
    Sign{"glm4", "rotary positions in half of every head"},
};

/// False for a single number, or a list of them, that is 0.
bool is_set(const GgufFile& file, std::string_view key) {
  try {
    const auto numbers = file.find_numbers(std::string(key));
    return !numbers || std::ranges::any_of(*numbers, [](double number) { return number != 0; });
  } catch (const Error&) {
    return true;  // no numbers
  }
}

}  // namespace

std::vector<std::string> missing_features(const GgufFile& file, std::string_view architecture) {
  std::vector<std::string> features;
  const auto add = [&](std::string_view feature) {
    if (std::ranges::find(features, feature) == features.end()) features.emplace_back(feature);
  };
  for (const Sign& sign : kKeys) {
    const std::string begin = std::string(architecture) + std::string(sign.what);
    for (auto at = file.index().values.lower_bound(begin);
         at != file.index().values.end() && at->first.starts_with(begin); ++at) {
      if (is_set(file, at->first)) add(sign.feature);
    }
  }
  for (const Sign& sign : kTensors) {
    for (const auto& [name, tensor] : file.index().tensors) {
      if (name.find(sign.what) != std::string_view::npos) add(sign.feature);
    }
  }
  for (const Sign& sign : kNames) {
    if (sign.what == architecture) add(sign.feature);
  }
  return features;
}

}  // namespace restkv
