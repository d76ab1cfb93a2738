#include "support/random_blocks.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <random>
#include <vector>

namespace restkv::testing {
namespace {

/// Sets the scale that is common to a block of `type`.
void set_scale(ggml_type type, char* block, ggml_fp16_t scale) {
  if (type != GGML_TYPE_IQ1_M) {
    std::memcpy(block, &scale, sizeof scale);  // it comes first
    return;
  }
  // Four bits of it are at the top of each of the last four 16-bit numbers.
  std::array<uint16_t, 4> last{};
  char* const place = block + ggml_type_size(type) - sizeof last;
  std::memcpy(last.data(), place, sizeof last);
  for (size_t i = 0; i < last.size(); ++i) {
    const unsigned nibble = (static_cast<unsigned>(scale) >> (4 * i)) & 0xFU;
    last[i] = static_cast<uint16_t>((last[i] & 0xFFFU) | (nibble << 12U));
  }
  std::memcpy(place, last.data(), sizeof last);
}

}  // namespace

bool is_slow_to_make(ggml_type type) {
  constexpr std::array kSlow{GGML_TYPE_IQ1_S,  GGML_TYPE_IQ1_M, GGML_TYPE_IQ2_XXS,
                             GGML_TYPE_IQ2_XS, GGML_TYPE_IQ2_S, GGML_TYPE_IQ3_XXS,
                             GGML_TYPE_IQ3_S};
  return std::ranges::find(kSlow, type) != kSlow.end();
}

std::string random_blocks(ggml_type type, size_t count, double deviation, uint32_t seed) {
  const size_t block_bytes = ggml_type_size(type);
  std::string blocks(count / static_cast<size_t>(ggml_blck_size(type)) * block_bytes, '\0');
  std::mt19937 random(seed);
  for (char& byte : blocks) byte = static_cast<char>(random());
  const auto set_scales = [&](double scale) {
    const ggml_fp16_t half = ggml_fp32_to_fp16(static_cast<float>(scale));
    for (size_t at = 0; at < blocks.size(); at += block_bytes) {
      set_scale(type, blocks.data() + at, half);
    }
  };
  set_scales(1);
  std::vector<float> values(count);
  ggml_get_type_traits(type)->to_float(blocks.data(), values.data(), static_cast<int64_t>(count));
  double squares = 0;
  for (const float v : values) squares += double{v} * v;
  set_scales(deviation / std::sqrt(squares / static_cast<double>(count)));
  return blocks;
}

}  // namespace restkv::testing
