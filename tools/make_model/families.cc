#include "make_model/families.h"

#include <fmt/format.h>

#include <array>
#include <string>

#include "base/find_named.h"
#include "restkv/error.h"

namespace restkv {
namespace {

constexpr std::array kFamilies{
    Family{.architecture = "llama", .head_keys = true},
    Family{.architecture = "qwen2", .qkv_bias = true},
    Family{.architecture = "qwen3", .qk_norm = true, .head_keys = true},
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
    Family{.architecture = "phi3", .fused = true},
};

}  // namespace

const Family& find_family(std::string_view architecture) {
  return find_named(kFamilies, &Family::architecture, architecture,
                    "there is no family '{}'; known: {}");
}

}  // namespace restkv
