#include "make_model/presets.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/find_named.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Published shapes: the config.json of each model.
const std::vector<Preset>& published() {
  static const std::vector<Preset> rows{
      {"Llama-2-7B",
       "MHA",
       {.architecture = "llama",
        .layers = 32,
        .width = 4096,
        .query_heads = 32,
        .kv_heads = 32,
        .head_dim = 128,
        .ffn_width = 11008,
        .context = 4096,
        .vocabulary = 32000}},
      {"Llama-3.1-8B",
       "GQA, frequency factors",
       {.architecture = "llama",
        .layers = 32,
        .width = 4096,
        .query_heads = 32,
        .kv_heads = 8,
        .head_dim = 128,
        .ffn_width = 14336,
        .context = 131072,
        .rope_base = 500000,
        .rope_stretch = RopeStretch{},
        .vocabulary = 128256}},
      {"Llama-3.2-1B",
       "GQA, frequency factors, tied",
       {.architecture = "llama",
        .layers = 16,
        .width = 2048,
        .query_heads = 32,
        .kv_heads = 8,
        .head_dim = 64,
        .ffn_width = 8192,
        .context = 131072,
        .rope_base = 500000,
        .rope_stretch = RopeStretch{.factor = 32},
        .tied = true,
        .vocabulary = 128256}},
      {"Mistral-7B-v0.1",
       "GQA, window of 4096",
       {.architecture = "llama",
        .layers = 32,
        .width = 4096,
        .query_heads = 32,
        .kv_heads = 8,
        .head_dim = 128,
        .ffn_width = 14336,
        .context = 32768,
        .window = 4096,
        .vocabulary = 32000}},
      {"Mistral-7B-v0.3",
       "GQA",
       {.architecture = "llama",
        .layers = 32,
        .width = 4096,
        .query_heads = 32,
        .kv_heads = 8,
        .head_dim = 128,
        .ffn_width = 14336,
        .context = 32768,
        .rope_base = 1000000,
        .vocabulary = 32768}},
      {"Mixtral-8x7B",
       "GQA, 2 of 8 experts",
       {.architecture = "llama",
        .layers = 32,
        .width = 4096,
        .query_heads = 32,
        .kv_heads = 8,
        .head_dim = 128,
        .ffn_width = 14336,
        .experts = 8,
        .experts_used = 2,
        .context = 32768,
        .rope_base = 1000000,
        .vocabulary = 32000}},
      {"SmolLM2-135M",
       "GQA, tied",
       {.architecture = "llama",
        .layers = 30,
        .width = 576,
        .query_heads = 9,
        .kv_heads = 3,
        .head_dim = 64,
        .ffn_width = 1536,
        .context = 8192,
        .rope_base = 100000,
        .tied = true,
        .vocabulary = 49152}},
      {"TinyLlama-1.1B",
       "GQA",
       {.architecture = "llama",
        .layers = 22,
        .width = 2048,
        .query_heads = 32,
        .kv_heads = 4,
        .head_dim = 64,
        .ffn_width = 5632,
        .context = 2048,
        .vocabulary = 32000}},
      {"Qwen2.5-7B",
       "GQA, biases",
       {.architecture = "qwen2",
        .layers = 28,
        .width = 3584,
        .query_heads = 28,
        .kv_heads = 4,
        .head_dim = 128,
        .ffn_width = 18944,
        .context = 32768,
        .norm_epsilon = 1e-6,
        .rope_base = 1000000,
        .vocabulary = 152064}},
      {"Qwen3-8B",
       "GQA, q/k norms",
       {.architecture = "qwen3",
        .layers = 36,
        .width = 4096,
        .query_heads = 32,
        .kv_heads = 8,
        .head_dim = 128,
        .ffn_width = 12288,
        .context = 40960,
        .norm_epsilon = 1e-6,
        .rope_base = 1000000,
        .vocabulary = 151936}},
      {"Qwen3-30B-A3B",
       "GQA, q/k norms, 8 of 128 experts",
       {.architecture = "qwen3moe",
        .layers = 48,
        .width = 2048,
        .query_heads = 32,
        .kv_heads = 4,
        .head_dim = 128,
        .ffn_width = 6144,
        .experts = 128,
        .experts_used = 8,
        .expert_width = 768,
        .context = 40960,
        .norm_epsilon = 1e-6,
        .rope_base = 1000000,
        .vocabulary = 151936}},
      {"gpt-oss-20b",
       "GQA, sinks, every second layer has a window, 4 of 32 experts",
       {.architecture = "gpt-oss",
        .layers = 24,
        .width = 2880,
        .query_heads = 64,
        .kv_heads = 8,
        .head_dim = 64,
        .ffn_width = 2880,
        .experts = 32,
        .experts_used = 4,
        .expert_width = 2880,
        .context = 131072,
        .rope_base = 150000,
        .rope_scaling = "yarn",
        .rope_factor = 32,
        .rope_original_context = 4096,
        .window = 128,
        .vocabulary = 201088}},
      {"OLMoE-1B-7B",
       "MHA, q/k norms, 8 of 64 experts",
       {.architecture = "olmoe",
        .layers = 16,
        .width = 2048,
        .query_heads = 16,
        .kv_heads = 16,
        .head_dim = 128,
        .ffn_width = 1024,
        .experts = 64,
        .experts_used = 8,
        .context = 4096,
        .vocabulary = 50304}},
      {"Gemma-7B",
       "MHA, heads wider than the model, tied",
       {.architecture = "gemma",
        .layers = 28,
        .width = 3072,
        .query_heads = 16,
        .kv_heads = 16,
        .head_dim = 256,
        .ffn_width = 24576,
        .context = 8192,
        .norm_epsilon = 1e-6,
        .tied = true,
        .vocabulary = 256000}},
      {"Gemma-2-9B",
       "GQA, every second layer has a window, soft caps, tied",
       {.architecture = "gemma2",
        .layers = 42,
        .width = 3584,
        .query_heads = 16,
        .kv_heads = 8,
        .head_dim = 256,
        .ffn_width = 14336,
        .context = 8192,
        .norm_epsilon = 1e-6,
        .window = 4096,
        .attention_softcap = 50,
        .final_softcap = 30,
        .tied = true,
        .vocabulary = 256000}},
      {"Gemma-3-270M",
       "one KV head, five of six layers have a window, tied",
       {.architecture = "gemma3",
        .layers = 18,
        .width = 640,
        .query_heads = 4,
        .kv_heads = 1,
        .head_dim = 256,
        .ffn_width = 2048,
        .context = 32768,
        .norm_epsilon = 1e-6,
        .rope_base = 1000000,
        .window = 512,
        .tied = true,
        .vocabulary = 262144}},
      {"Phi-3-mini-4k",
       "MHA, fused matrices",
       {.architecture = "phi3",
        .layers = 32,
        .width = 3072,
        .query_heads = 32,
        .kv_heads = 32,
        .head_dim = 96,
        .ffn_width = 8192,
        .context = 4096,
        .window = 2047,
        .vocabulary = 32064}},
  };
  return rows;
}

constexpr size_t kTinyVocabulary = 1024;
constexpr size_t kTinyWindow = 64;

/// Common properties of the tiny models.
RandomModel tiny(std::string architecture) {
  return {.architecture = std::move(architecture),
          .layers = 3,
          .width = 256,
          .query_heads = 4,
          .kv_heads = 2,
          .head_dim = 64,
          .ffn_width = 512,
          .vocabulary = kTinyVocabulary};
}

std::vector<Preset> all_presets() {
  std::vector<Preset> rows = published();
  const auto add = [&](std::string_view name, std::string_view what, RandomModel model) {
    rows.push_back({name, what, std::move(model)});
  };
  RandomModel model = tiny("llama");
  add("tiny-llama", "GQA", model);

  model.rope_base = 500000;
  model.rope_stretch = RopeStretch{.original_context = 256};
  add("tiny-llama-3.1", "GQA, frequency factors", model);

  model.tied = true;
  add("tiny-llama-3.2", "GQA, frequency factors, tied", model);

  model = tiny("llama");
  model.window = kTinyWindow;
  add("tiny-mistral-v0.1", "GQA, all layers have a window", model);

  model = tiny("qwen2");
  model.rope_base = 1000000;
  add("tiny-qwen2", "GQA, biases", model);

  model = tiny("qwen3");
  model.rope_base = 1000000;
  model.head_dim = 128;
  model.tied = true;
  add("tiny-qwen3", "GQA, q/k norms, heads wider than the model, tied", model);

  const auto with_experts = [](std::string architecture) {
    RandomModel sparse = tiny(std::move(architecture));
    sparse.layers = 2;
    sparse.ffn_width = 256;
    sparse.experts = 8;
    return sparse;
  };
  model = with_experts("llama");
  add("tiny-mixtral", "GQA, 2 of 8 experts", model);

  model = with_experts("qwen2moe");
  model.rope_base = 1000000;
  model.experts_used = 4;
  model.expert_width = 256;
  model.shared_expert_width = 512;
  add("tiny-qwen2moe", "GQA, biases, 4 of 8 experts and a shared one", model);

  model = with_experts("qwen3moe");
  model.rope_base = 1000000;
  model.experts = 16;
  model.experts_used = 3;
  model.expert_width = 256;
  model.ffn_width = 512;
  add("tiny-qwen3moe", "GQA, q/k norms, 3 of 16 experts", model);

  model = with_experts("olmoe");
  model.kv_heads = model.query_heads;
  add("tiny-olmoe", "MHA, q/k norms of whole rows, 2 of 8 experts", model);

  model = with_experts("gpt-oss");
  model.layers = 4;
  model.rope_base = 150000;
  model.rope_scaling = "yarn";
  model.rope_factor = 4;
  model.rope_original_context = 128;
  model.window = kTinyWindow;
  model.experts_used = 3;
  model.expert_width = 256;
  add("tiny-gpt-oss", "GQA, sinks, biases, every second layer has a window, 3 of 8 experts", model);

  model = tiny("smollm3");
  model.layers = 5;
  model.rope_base = 5000000;
  model.tied = true;
  add("tiny-smollm3", "GQA, every fourth layer has no rotary embedding, tied", model);

  model = tiny("olmo2");
  model.rope_base = 500000;
  model.layers = 5;
  model.window = kTinyWindow;
  model.rope_scaling = "yarn";
  model.rope_factor = 4;
  model.rope_original_context = 128;
  add("tiny-olmo2", "GQA, norms behind blocks only, three of four layers have a window", model);

  model = tiny("granite");
  model.layers = 2;
  model.attention_scale = 0.1;
  model.embedding_scale = 4;
  model.residual_scale = 0.25;
  model.logit_scale = 6;
  model.tied = true;
  add("tiny-granite", "GQA, multipliers, tied", model);

  model.architecture = "granitemoe";
  model.ffn_width = 256;
  model.experts = 8;
  model.experts_used = 3;
  model.shared_expert_width = 256;
  add("tiny-granitemoe", "GQA, multipliers, 3 of 8 experts and a shared one, tied", model);

  model = tiny("gemma");
  model.kv_heads = model.query_heads;
  model.head_dim = 128;
  model.tied = true;
  add("tiny-gemma", "MHA, heads wider than the model, tied", model);

  model = tiny("gemma2");
  model.layers = 4;
  model.query_heads = 8;
  model.kv_heads = 4;
  model.window = kTinyWindow;
  model.attention_softcap = 5;
  model.final_softcap = 8;
  model.tied = true;
  add("tiny-gemma2", "GQA, every second layer has a window, soft caps that bend, tied", model);

  model = tiny("gemma3");
  model.layers = 7;
  model.kv_heads = 1;
  model.head_dim = 128;
  model.rope_base = 1000000;
  model.window = kTinyWindow;
  model.tied = true;
  add("tiny-gemma3", "one KV head, five of six layers have a window, q/k norms, tied", model);

  model = tiny("phi3");
  add("tiny-phi-3", "GQA, fused matrices", model);

  model.rope_dim = 48;
  model.context = 4096;
  model.rope_scaling = "longrope";
  model.rope_original_context = 256;
  add("tiny-phi-3-long", "GQA, fused matrices, part of each head rotated, LongRoPE factors", model);

  for (Preset& row : rows) {
    row.model.name = row.name;
    // libllama insists on Phi's own tokens if it reads "phi-3" in a name.
    std::replace(row.model.name.begin(), row.model.name.end(), '-', ' ');
  }
  return rows;
}

}  // namespace

const std::vector<Preset>& presets() {
  static const std::vector<Preset> rows = all_presets();
  return rows;
}

RandomModel find_preset(std::string_view name) {
  return find_named(presets(), &Preset::name, name, "there is no shape '{}'; known: {}").model;
}

}  // namespace restkv
