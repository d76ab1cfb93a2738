#include <array>

#include "model/metadata.h"

namespace restkv {
namespace {

constexpr double kMaxLayers = 4096;
constexpr double kMaxHeads = 4096;
constexpr double kMaxHeadDim = 4096;
constexpr double kMaxExperts = 4096;
constexpr double kMaxWidth = 1U << 20U;
constexpr double kMaxContext = 1U << 30U;
constexpr double kMaxInteger = 0x7FFFFFFF;

constexpr KeyRule read(std::string_view key, std::string_view note, double least = 0,
                       double most = 0) {
  return {.key = key, .use = KeyUse::kRead, .note = note, .least = least, .most = most};
}
constexpr KeyRule read_or_zero(std::string_view key, std::string_view note, double least,
                               double most) {
  KeyRule rule = read(key, note, least, most);
  rule.or_zero = true;
  return rule;
}
constexpr KeyRule fixed(std::string_view key, std::string_view note, double value, double other) {
  return {.key = key, .use = KeyUse::kFixed, .note = note, .least = value, .most = other};
}
constexpr KeyRule fixed(std::string_view key, std::string_view note, double value) {
  return fixed(key, note, value, value);
}
constexpr KeyRule ignored(std::string_view key, std::string_view note) {
  return {.key = key, .use = KeyUse::kIgnored, .note = note};
}

constexpr std::string_view kAbout = "about the file";
constexpr std::string_view kVocabulary = "libllama reads them: its vocabulary makes the tokens";
constexpr std::string_view kAfterwards = "for embeddings and rankings, made after the last layer";
constexpr std::string_view kExperts = "of experts in other architectures";
constexpr std::string_view kOther =
    "of other architectures, whose tensors are refused here and by libllama";

/// Limits are far beyond any real model. They exclude nonsense and unlimited allocations.
constexpr std::array kRules{
    // ---- The file
    read("general.architecture", "a supported one, spelt as in usage.md"),
    read("general.type", "`model`, where the file says it; an adapter is refused"),
    read("general.alignment", "a power of two from 8 on; 32 without it"),
    read("split.count", "files of the model; their names end with -00001-of-00003.gguf", 0, 65535),
    read("split.no", "from 0 on: which of them it is; the model is opened by the first"),
    read("split.tensors.count", "tensors of all files together"),
    // ---- Sizes
    read(".block_count", "layers; a tensor of a further layer is refused", 1, kMaxLayers),
    read(".context_length", "tokens", 1, kMaxContext),
    read(".embedding_length", "width", 1, kMaxWidth),
    read(".feed_forward_length", "or a list with an equal entry for every layer", 1, kMaxWidth),
    read(".expert_count", "experts of a layer, 0: none; read in the families with experts", 0,
         kMaxExperts),
    read(".expert_used_count", "those of a token; or a list with an equal entry for every layer", 0,
         kMaxExperts),
    read(".expert_feed_forward_length",
         "read in `qwen2moe`, `qwen3moe` and `gpt-oss`; `feed_forward_length` in others", 1,
         kMaxWidth),
    read(".expert_shared_feed_forward_length",
         "of the expert that computes all tokens, 0: none; read in `qwen2moe` "
         "(`feed_forward_length` without it) and `granitemoe`",
         0, kMaxWidth),
    read(".attention.head_count", "or a list with an equal entry for every layer", 1, kMaxHeads),
    read(".attention.head_count_kv", "likewise; `head_count` without it", 1, kMaxHeads),
    read(".attention.key_length", "`embedding_length` / `head_count` without it", 1, kMaxHeadDim),
    read(".attention.value_length", "`embedding_length` / `head_count` without it", 1, kMaxHeadDim),
    read(".attention.key_length_swa", "`key_length` again: windows change no sizes", 1,
         kMaxHeadDim),
    read(".attention.value_length_swa", "`value_length` again", 1, kMaxHeadDim),
    read(".vocab_size", "where the file has no vocabulary", 1, 1U << 24U),
    // ---- Scales
    read(".attention.layer_norm_rms_epsilon", "added to mean squares; must be there", 1e-12, 0.1),
    read_or_zero(
        ".attention.scale",
        "of the softmax; 1 / sqrt(key_length) without it. Of these families, libllama reads "
        "it in `granite*` only",
        1e-5, 100),
    read_or_zero(".attn_logit_softcapping",
                 "50 without it in `gemma2`. libllama reads it in `gemma2` only", 1, 1e5),
    read_or_zero(".final_logit_softcapping",
                 "30 without it in `gemma2`. libllama reads it in `gemma2` and `gemma3` only", 1,
                 1e5),
    read_or_zero(".embedding_scale", "embeddings are multiplied by it; in `granite*` only", 1e-5,
                 1e5),
    read_or_zero(".residual_scale", "what a layer adds is multiplied by it; in `granite*` only",
                 1e-5, 1e5),
    read_or_zero(".logit_scale",
                 "logits are divided by it; in `granite*` only, where it must be there", 1e-5, 1e5),
    read_or_zero(
        ".expert_weights_scale",
        "the weights of experts are multiplied by it. libllama reads it in other families only",
        1e-5, 1e5),
    read(".expert_weights_norm",
         "whether the weights of a token's experts add up to 1, which every "
         "family has fixed"),
    // ---- Windows
    read(".attention.sliding_window",
         "tokens, 0: none; read in `llama`, `gemma2` (4096 without it), `gemma3`, `gpt-oss` and "
         "`olmo2`",
         0, kMaxInteger),
    read(".attention.sliding_window_pattern",
         "n: every n-th layer has no window (0: all have one); or a list of flags. Without it 2 in "
         "`gemma2` and `gpt-oss`, 4 in `olmo2`, 6 in `gemma3`, 0 in `llama`",
         0, kMaxInteger),
    // ---- RoPE
    read(".rope.dimension_count", "even, at most `key_length`, which it is without it", 2,
         kMaxHeadDim),
    read(".rope.dimension_count_swa", "`dimension_count` again", 2, kMaxHeadDim),
    read(".rope.freq_base", "10000 without it", 10, 1e12),
    read(".rope.freq_base_swa",
         "of layers with windows; without it 10000 in `gemma3`, `freq_base` in others", 10, 1e12),
    read(".rope.scaling.type", "`none`, `linear` (also without it), `yarn` or `longrope`"),
    read_or_zero(".rope.scaling.factor", "in `gemma3` of layers without windows", 1, 1e4),
    read_or_zero(".rope.scale_linear", "the older name of `rope.scaling.factor`, read without it",
                 1, 1e4),
    read(".rope.scaling.original_context_length",
         "`context_length` without it; below that, LongRoPE's long factors are used", 1,
         kMaxContext),
    read(".rope.scaling.attn_factor", "cosine and sine are multiplied by it", 0.01, 100),
    read(".rope.scaling.yarn_beta_fast",
         "32 without it. libllama reads it in `mistral3`, none of these", 0.01, 1e4),
    read(".rope.scaling.yarn_beta_slow", "1 without it. Likewise", 0.01, 1e4),
    read(".rope.scaling.yarn_attn_factor", "1, or the factor that YaRN has anyway", 0.01, 100),
    // ---- Other computations
    fixed(".expert_gating_func", "experts that are not chosen by a softmax", 0, 1),
    fixed(".expert_group_count", "groups of experts", 0, 1),
    fixed(".leading_dense_block_count", "layers with and without experts", 0),
    fixed(".interleave_moe_layer_step", "layers with and without experts", 0, 1),
    fixed(".moe_every_n_layers", "layers with and without experts", 0, 1),
    fixed(".router_logit_softcapping", "soft caps of routers", 0),
    fixed(".nextn_predict_layers", "layers that predict further tokens", 0),
    fixed(".num_loops", "layers that are run several times", 0, 1),
    fixed(".use_parallel_residual", "attention and feed-forward network side by side", 0),
    fixed(".swin_norm", "norms in another place", 0),
    fixed(".attention.causal", "attention to later tokens", 1),
    fixed(".attention.max_alibi_bias", "ALiBi", 0),
    fixed(".attention.clamp_kqv", "clamped queries, keys and values", 0),
    fixed(".attention.output_scale", "scaled attention outputs", 0, 1),
    fixed(".attention.value_scale", "scaled values", 0, 1),
    fixed(".attention.temperature_length", "a softmax scale that depends on the position", 0),
    fixed(".attention.temperature_scale", "a softmax scale that depends on the position", 0),
    fixed(".attention.shared_kv_layers", "layers that share keys and values", 0),
    fixed(".attention.rope_pattern", "layers without RoPE", 1),
    fixed(".rope.dimension_sections", "positions along several axes", 0),
    fixed(".rope.scaling.alpha", "a RoPE base that depends on alpha", 0),
    fixed(".rope.scaling.yarn_ext_factor", "a part of YaRN", -1, 1),
    fixed(".rope.scaling.yarn_log_multiplier", "YaRN's magnitude of DeepSeek and Mistral 3", 0),
    // ---- Without effect
    ignored("general.*", kAbout),
    ignored("general.sampling.*", "defaults of llama.cpp's programs; restkv's are its options"),
    ignored("general.tensor_extra.*", "how far libllama may round activations"),
    ignored("tokenizer.*", kVocabulary),
    ignored("adapter.*", "of adapters, whose `general.type` is refused"),
    ignored(".tensor_data_layout", kAbout),
    read(".rope.scaling.finetuned", "in `granite*`: whether there is RoPE, which there must be"),
    ignored(".hidden_activation", "every family has its own"),
    ignored(".attention.layer_norm_epsilon", "these families have RMS norms"),
    ignored(".attention.group_norm_*", "these families have RMS norms"),
    ignored(".embedding_length_out", kAfterwards),
    ignored(".pooling_type", kAfterwards),
    ignored(".classifier.*", kAfterwards),
    ignored(".dense_2_feat_*", kAfterwards),
    ignored(".dense_3_feat_*", kAfterwards),
    ignored(".expert_*", kExperts),
    ignored(".experts_per_group", kExperts),
    ignored(".moe_*", kExperts),
    ignored(".swiglu_clamp_*", kExperts),
    ignored(".activation.*", kOther),
    ignored(".adapters.*", kOther),
    ignored(".attention.*", kOther),
    ignored(".attn_res.*", kOther),
    ignored(".block_size", kOther),
    ignored(".conv_*", kOther),
    ignored(".convnext.*", kOther),
    ignored(".decoder_*", kOther),
    ignored(".deepstack_mapping", kOther),
    ignored(".embedding_length_per_layer_input", kOther),
    ignored(".features_length", kOther),
    ignored(".full_attention_interval", kOther),
    ignored(".hash_layer_count", kOther),
    ignored(".hrm.*", kOther),
    ignored(".hyper_connection.*", kOther),
    ignored(".kda.*", kOther),
    ignored(".n_deepstack_layers", kOther),
    ignored(".norm_before_*", kOther),
    ignored(".ple.*", kOther),
    ignored(".posnet.*", kOther),
    ignored(".rescale_every_n_layers", kOther),
    ignored(".selector_*", kOther),
    ignored(".shortconv.*", kOther),
    ignored(".skip_loop_final_norm", kOther),
    ignored(".ssm.*", kOther),
    ignored(".target_*", kOther),
    ignored(".time_*", kOther),
    ignored(".token_shift_count", kOther),
    ignored(".wkv.*", kOther),
    ignored("xielu.*", kOther),
};

bool is_group_of(std::string_view rule, std::string_view key) {
  return rule.ends_with('*') && key.starts_with(rule.substr(0, rule.size() - 1));
}

}  // namespace

std::span<const KeyRule> key_rules() { return kRules; }

const KeyRule* find_key_rule(std::string_view key) {
  const KeyRule* found = nullptr;
  for (const KeyRule& rule : kRules) {
    if (rule.key == key) return &rule;
    const bool closer = found == nullptr || rule.key.size() > found->key.size();
    if (is_group_of(rule.key, key) && closer) found = &rule;
  }
  return found;
}

}  // namespace restkv
