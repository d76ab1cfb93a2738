#include "attention/attention_precision.h"

#include <fmt/format.h>

#include "base/avx512.h"
#include "base/int8_dot.h"
#include "hwy/base.h"
#include "restkv/error.h"

namespace restkv {

std::string_view attention_precision_name(AttentionPrecision precision) {
  return precision == AttentionPrecision::kF32    ? "f32"
         : precision == AttentionPrecision::kBf16 ? "bf16"
                                                  : "int8";
}

AttentionPrecision find_attention_precision(std::string_view name) {
  for (const auto precision :
       {AttentionPrecision::kF32, AttentionPrecision::kBf16, AttentionPrecision::kInt8}) {
    if (name == attention_precision_name(precision)) return precision;
  }
  if (name == "auto") {
    return supports(AttentionPrecision::kInt8) ? AttentionPrecision::kInt8
                                               : AttentionPrecision::kF32;
  }
  throw Error(
      ErrorCode::kInvalidArgument,
      fmt::format("attention precision '{}' is unknown; choose one of f32, bf16, int8, auto",
                  name));
}

bool supports(AttentionPrecision precision) {
  if (precision == AttentionPrecision::kF32) return true;
  if (precision == AttentionPrecision::kInt8) return has_int8_pairs();
#if HWY_ARCH_X86
  // Kernels exist for AVX-512 (see base/bf16-inl.h), which tests can switch off.
  return runs_avx512() && __builtin_cpu_supports("avx512bf16") != 0;
#else
  return false;
#endif
}

void require_support(AttentionPrecision precision) {
  if (supports(precision)) return;
  throw Error(ErrorCode::kUnsupported,
              fmt::format("attention precision {} needs a processor with {}, which this one lacks; "
                          "use f32 or auto",
                          attention_precision_name(precision),
                          precision == AttentionPrecision::kBf16 ? "AVX512-BF16" : "AVX2"));
}

}  // namespace restkv
