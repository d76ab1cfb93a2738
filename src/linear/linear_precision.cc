#include "linear/linear_precision.h"

#include <fmt/format.h>
#include <oneapi/dnnl/dnnl.h>

#include "base/int8_dot.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Whether oneDNN generates code for this instruction set.
bool uses_isa(dnnl_cpu_isa_t isa) {
  return (dnnl_get_effective_cpu_isa() & isa) == isa;  // they are sets of bits
}

}  // namespace

std::string_view linear_precision_name(LinearPrecision precision) {
  return precision == LinearPrecision::kF32    ? "f32"
         : precision == LinearPrecision::kBf16 ? "bf16"
                                               : "int8";
}

LinearPrecision find_linear_precision(std::string_view name) {
  for (const auto precision :
       {LinearPrecision::kF32, LinearPrecision::kBf16, LinearPrecision::kInt8}) {
    if (name == linear_precision_name(precision)) return precision;
  }
  if (name == "auto") {
    if (uses_isa(dnnl_cpu_isa_avx512_core_amx)) return LinearPrecision::kBf16;
    // Without AMX, bfloat16 is never faster than 8 bits. On some processors (Sapphire Rapids and
    // later ones) it is slower than float32.
    return supports(LinearPrecision::kInt8) ? LinearPrecision::kInt8 : LinearPrecision::kF32;
  }
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("linear precision '{}' is unknown; choose one of f32, bf16, int8, auto", name));
}

bool supports(LinearPrecision precision) {
  switch (precision) {
    case LinearPrecision::kBf16:
      return uses_isa(dnnl_cpu_isa_avx512_core_bf16);
    case LinearPrecision::kInt8:
      return has_int8_pairs();
    case LinearPrecision::kF32:
      break;
  }
  return true;
}

void require_support(LinearPrecision precision) {
  if (supports(precision)) return;
  throw Error(
      ErrorCode::kUnsupported,
      fmt::format("linear precision {} needs a processor with {}, which this one lacks; use f32 "
                  "or auto",
                  linear_precision_name(precision),
                  precision == LinearPrecision::kBf16 ? "AVX512-BF16" : "AVX2"));
}

}  // namespace restkv
