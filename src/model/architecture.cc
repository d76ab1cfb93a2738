#include "model/architecture.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "restkv/error.h"

namespace restkv {
namespace {

constexpr std::array kArchitectures{
    Architecture{.name = "llama",
                 .families = "Llama 2/3, Mistral, Mixtral, SmolLM2, TinyLlama",
                 .rope = RopeStyle::kNeighbours,
                 .windows = Windows::kAll,
                 .experts = Experts::kWhereGiven},
    Architecture{
        .name = "internlm2", .families = "InternLM 2, 2.5, 3", .rope = RopeStyle::kNeighbours},
    Architecture{.name = "smollm3",
                 .families = "SmolLM 3",
                 .rope = RopeStyle::kNeighbours,
                 .still_period = 4},
    Architecture{.name = "qwen2", .families = "Qwen 2, 2.5"},
    Architecture{.name = "qwen2moe",
                 .families = "Qwen 1.5 and 2 with experts",
                 .experts = Experts::kAlways,
                 .normalised_experts = false,
                 .own_expert_width = true,
                 .shared_expert = SharedExpert::kGated},
    Architecture{.name = "qwen3", .families = "Qwen 3", .qk_norms = QkNorms::kHeads},
    Architecture{.name = "qwen3moe",
                 .families = "Qwen 3 with experts",
                 .qk_norms = QkNorms::kHeads,
                 .experts = Experts::kAlways,
                 .own_expert_width = true},
    Architecture{.name = "olmo2",
                 .families = "OLMo 2, 3",
                 .qk_norms = QkNorms::kRows,
                 .pre_norms = false,
                 .post_norms = true,
                 .windows = Windows::kMost,
                 .window_period = 4,
                 .plain_window_rope = true},
    Architecture{.name = "olmoe",
                 .families = "OLMoE",
                 .qk_norms = QkNorms::kRows,
                 .experts = Experts::kAlways,
                 .normalised_experts = false},
    Architecture{.name = "gpt-oss",
                 .families = "gpt-oss",
                 .activation = Activation::kClampedSilu,
                 .ffn_norm = "post_attention_norm",
                 .sinks = true,
                 .windows = Windows::kMost,
                 .window_period = 2,
                 .experts = Experts::kAlways,
                 .own_expert_width = true},
    Architecture{.name = "granite",
                 .families = "Granite 3, 4",
                 .rope = RopeStyle::kNeighbours,
                 .multipliers = true},
    Architecture{.name = "granitemoe",
                 .families = "Granite 3 with experts",
                 .rope = RopeStyle::kNeighbours,
                 .multipliers = true,
                 .experts = Experts::kAlways,
                 .shared_expert = SharedExpert::kWhereGiven},
    Architecture{.name = "phi3", .families = "Phi 3, 3.5, 4", .fused_gate = true},
    Architecture{.name = "gemma",
                 .families = "Gemma 1",
                 .activation = Activation::kGelu,
                 .scaled_embedding = true},
    Architecture{.name = "gemma2",
                 .families = "Gemma 2",
                 .activation = Activation::kGelu,
                 .scaled_embedding = true,
                 .post_norms = true,
                 .windows = Windows::kMost,
                 .window_period = 2,
                 .window = 4096,
                 .attention_softcap = 50,
                 .final_softcap = 30,
                 .scale_by_width_layers = 46},
    Architecture{.name = "gemma3",
                 .families = "Gemma 3",
                 .activation = Activation::kGelu,
                 .scaled_embedding = true,
                 .qk_norms = QkNorms::kHeads,
                 .post_norms = true,
                 .windows = Windows::kMost,
                 .window_period = 6,
                 .window_rope_base = 10000,
                 .scale_by_width_layers = 62},
};

}  // namespace

const Architecture& find_architecture(std::string_view name) {
  std::string known;
  for (const Architecture& row : kArchitectures) {
    if (row.name == name) return row;
    known += fmt::format("{}{} ({})", known.empty() ? "" : ", ", row.name, row.families);
  }
  throw Error(ErrorCode::kUnsupported,
              fmt::format("the architecture '{:.64}' is not supported; known: {}", name, known));
}

}  // namespace restkv
