#pragma once

#include <cstdint>
#include <string_view>

/// Precisions of the computation of prompts. Single tokens are computed with the stored weights.
namespace restkv {

/// Precision of the products of prompts with weights.
enum class LinearPrecision {
  kF32,   ///< Every processor.
  kBf16,  ///< Weights and activations rounded to bfloat16, sums in float32: AVX512-BF16 or AMX.
  kInt8,  ///< Weights and activations in 8 bits, one scale per 32 neighbours, exact sums: AVX2.
};
std::string_view linear_precision_name(LinearPrecision precision);
/// "f32", "bf16", "int8", or "auto": bf16 where the processor has AMX, int8 where it has AVX2,
/// otherwise f32. Throws `Error` (kInvalidArgument) on other names.
LinearPrecision find_linear_precision(std::string_view name);

/// Precision of the products of prompts' attention: queries with keys, and weights with values.
/// Sums and softmax are in float32.
enum class AttentionPrecision : uint8_t {
  kF32,   ///< Every processor.
  kBf16,  ///< Factors rounded to bfloat16: AVX512-BF16.
  kInt8,  ///< Factors rounded to 8 bits with individual scales: AVX2.
};
std::string_view attention_precision_name(AttentionPrecision precision);
/// "f32", "bf16", "int8", or "auto": int8 where the processor has AVX2, otherwise f32. Throws
/// `Error` (kInvalidArgument) on other names.
AttentionPrecision find_attention_precision(std::string_view name);

}  // namespace restkv
