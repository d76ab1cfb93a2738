#pragma once

#include <cstdint>
#include <string_view>

/// The precisions in which prompts are computed. Single tokens are always computed in float32, with
/// weights as they are stored.
namespace restkv {

/// The precision in which prompts are multiplied with weights.
enum class LinearPrecision {
  kF32,   ///< Every processor.
  kBf16,  ///< Weights and activations rounded to bfloat16, sums in float32: AVX512-BF16 or AMX.
  kInt8,  ///< Weights and activations in 8 bits, a step for 32 neighbours, exact sums: VNNI.
};
std::string_view linear_precision_name(LinearPrecision precision);
/// "f32", "bf16", "int8", or "auto": bf16 where the processor has AMX, int8 where it has VNNI,
/// otherwise f32. Throws `Error` (kInvalidArgument).
LinearPrecision find_linear_precision(std::string_view name);

/// The precision in which the attention of prompts multiplies: queries with keys, and weights with
/// values. Sums and softmax are in float32.
enum class AttentionPrecision : uint8_t {
  kF32,   ///< Every processor.
  kBf16,  ///< Factors rounded to bfloat16: AVX512-BF16.
  kInt8,  ///< Factors rounded to 8 bits with steps of their own: VNNI.
};
std::string_view attention_precision_name(AttentionPrecision precision);
/// "f32", "bf16", "int8", or "auto": int8 where the processor has it, otherwise f32. Throws `Error`
/// (kInvalidArgument).
AttentionPrecision find_attention_precision(std::string_view name);

}  // namespace restkv
