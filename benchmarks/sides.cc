#include "sides.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "bench/measure.h"
#include "llama_side.h"
#include "restkv/error.h"

namespace restkv::bench {
namespace {

using enum RuntimeName;

constexpr std::array kSides{
    Side{.name = "restkv"},
    Side{.name = "llama", .runtime = kLlama, .ubatch = kLlamaUbatch},
    Side{.name = "openvino", .runtime = kOpenVino},
    Side{.name = "restkv-full", .full_cache = true},
    Side{.name = "restkv-bf16", .precision = "bf16"},
    Side{.name = "restkv-int8", .precision = "int8"},
    Side{.name = "restkv-sparse", .precision = "auto", .sparse = true},
    Side{.name = "llama-fa", .runtime = kLlama, .flash_attention = true, .ubatch = kLlamaUbatch},
    Side{.name = "llama-ubatch2048", .runtime = kLlama, .ubatch = kLlamaBatch},
    Side{.name = "llama-fa-ubatch2048",
         .runtime = kLlama,
         .flash_attention = true,
         .ubatch = kLlamaBatch},
};

}  // namespace

std::string Side::title(const CompressionOptions& compression) const {
  if (runtime == kLlama) {
    return fmt::format("llama.cpp (flash attention {}, ubatch {})", flash_attention ? "on" : "off",
                       ubatch);
  }
  if (runtime == kOpenVino) return "OpenVINO GenAI";
  if (full_cache) return "restkv (full cache)";
  return fmt::format(
      "restkv ({}, budget {}{}{})", compression.method, compression.budget,
      precision == "bf16" || precision == "int8" ? fmt::format(", {}", precision) : "",
      sparse ? ", sparse" : "");
}

std::span<const Side> sides() { return kSides; }

Measurement measure_side(const Job& job) {
  const auto* side = std::ranges::find(kSides, job.side, &Side::name);
  if (side == kSides.end() || side->runtime == kOpenVino) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("{} is no side that this program measures", job.side));
  }
  return side->is_restkv() ? measure_restkv(job)
                           : measure_llama(job, side->flash_attention, side->ubatch);
}

}  // namespace restkv::bench
