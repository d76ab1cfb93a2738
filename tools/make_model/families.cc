#include "make_model/families.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "base/find_named.h"
#include "restkv/error.h"

namespace restkv {
namespace {

constexpr std::array kFamilies{
    Family{.architecture = "llama", .head_keys = true, .rope_keys = true},
    Family{.architecture = "internlm2", .rope_keys = true},
    Family{.architecture = "smollm3", .rope_keys = true},
    Family{.architecture = "qwen2", .qkv_bias = true},
    Family{.architecture = "qwen2moe",
           .qkv_bias = true,
           .own_expert_width = true,
           .gated_shared_expert = true},
    Family{.architecture = "qwen3", .qk_norm = true, .head_keys = true},
    Family{
        .architecture = "qwen3moe", .qk_norm = true, .head_keys = true, .own_expert_width = true},
    Family{
        .architecture = "olmo2", .whole_qk_norm = true, .post_norms = true, .no_pre_norms = true},
    Family{.architecture = "olmoe", .whole_qk_norm = true},
    Family{.architecture = "gpt-oss",
           .head_keys = true,
           .own_expert_width = true,
           .all_biases = true,
           .sinks = true,
           .post_attention_norm = true},
    Family{.architecture = "granite", .rope_keys = true},
    Family{.architecture = "granitemoe", .rope_keys = true},
    Family{.architecture = "gemma", .scaled_input = true, .head_keys = true, .always_tied = true},
    Family{.architecture = "gemma2",
           .post_norms = true,
           .scaled_input = true,
           .head_keys = true,
           .always_tied = true},
    Family{.architecture = "gemma3",
           .qk_norm = true,
           .post_norms = true,
           .scaled_input = true,
           .head_keys = true},
    Family{.architecture = "phi3", .fused = true, .rope_keys = true},
};

}  // namespace

const Family& find_family(std::string_view architecture) {
  return find_named(kFamilies, &Family::architecture, architecture,
                    "there is no family '{}'; known: {}");
}

}  // namespace restkv
