#include "model/architecture.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "restkv/error.h"

namespace restkv {
namespace {

constexpr std::array kArchitectures{
    Architecture{.name = "llama",
                 .families = "Llama 2/3, Mistral, SmolLM2, TinyLlama",
                 .rope = RopeStyle::kNeighbours,
                 .windows = Windows::kAll},
    Architecture{.name = "qwen2", .families = "Qwen 2, 2.5"},
    Architecture{.name = "qwen3", .families = "Qwen 3", .qk_norms = true},
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
                 .qk_norms = true,
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
