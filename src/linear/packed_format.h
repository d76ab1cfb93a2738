#pragma once

#include <ggml.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "linear/quantized_rows.h"

namespace restkv {

/// How a type's numbers lie in a panel of 16 rows of weights, in blocks of 32 along the rows.
///
/// A number is step * (quant - offset), or step * quant + minimum. Each row has halves for
/// `together` blocks: the step, perhaps the minimum; and, where `scales` is 2, two bytes for each
/// block: what its step and minimum are of those halves, or, of 6 bits, what the steps of either
/// half of the block are, with a sign. First comes all of that, block by block and row by row
/// within each kind; then, from a cache line on, the quants, block by block: four bytes of each
/// row, the next four, and so on. Bytes of 4 bits hold quants j and, in their upper halves, j + 16.
/// The lower parts of 5 and 6 bits are like these; the upper ones follow: of quants 4 v + i and 16
/// + 4 v + i, one bit each from bits v and 4 + v of byte i on, or two bits from bit 2 v of bytes i
/// and 4 + i on.
struct PackedFormat {
  size_t bits;
  size_t halves;
  size_t together = 1;
  size_t scales = 0;

  static constexpr size_t kBlock = QuantizedRows::kBlock;
  static constexpr size_t kRows = 16;

  [[nodiscard]] constexpr bool has_min() const { return halves == 2; }
  /// What quants are relative to. Of 8 bits it takes the sign away.
  [[nodiscard]] constexpr int offset() const { return has_min() ? 0 : 1 << (bits - 1); }

  /// Bytes of all rows: of halves, of a block's scales, of a block's quants, of all before the
  /// quants.
  [[nodiscard]] constexpr size_t half_bytes() const { return kRows * halves * 2; }
  [[nodiscard]] constexpr size_t scale_bytes() const { return kRows * scales; }
  [[nodiscard]] constexpr size_t quant_bytes() const { return kRows * kBlock * bits / 8; }
  [[nodiscard]] constexpr size_t header_bytes(size_t blocks) const {
    constexpr size_t kLine = 64;
    const size_t bytes = blocks / together * half_bytes() + blocks * scale_bytes();
    return (bytes + kLine - 1) / kLine * kLine;
  }
  [[nodiscard]] constexpr size_t panel_bytes(size_t blocks) const {
    return header_bytes(blocks) + blocks * quant_bytes();
  }
};

struct PackedType {
  ggml_type type;
  PackedFormat format;
};
inline constexpr std::array kPackedTypes{
    PackedType{GGML_TYPE_Q4_0, {.bits = 4, .halves = 1}},
    PackedType{GGML_TYPE_Q4_1, {.bits = 4, .halves = 2}},
    PackedType{GGML_TYPE_Q5_0, {.bits = 5, .halves = 1}},
    PackedType{GGML_TYPE_Q5_1, {.bits = 5, .halves = 2}},
    PackedType{GGML_TYPE_Q8_0, {.bits = 8, .halves = 1}},
    PackedType{GGML_TYPE_Q4_K, {.bits = 4, .halves = 2, .together = 8, .scales = 2}},
    PackedType{GGML_TYPE_Q5_K, {.bits = 5, .halves = 2, .together = 8, .scales = 2}},
    PackedType{GGML_TYPE_Q6_K, {.bits = 6, .halves = 1, .together = 8, .scales = 2}},
};

/// Calls body.template operator()<format>() with the format of a type, if it has one; returns
/// whether it has.
template <size_t kIndex = 0, class Body>
constexpr bool with_packed_format(ggml_type type, const Body& body) {
  if constexpr (kIndex == kPackedTypes.size()) {
    return false;
  } else {
    if (type != kPackedTypes[kIndex].type) return with_packed_format<kIndex + 1>(type, body);
    body.template operator()<kPackedTypes[kIndex].format>();
    return true;
  }
}

/// `panel` from `count` stored rows, which begin every `row_bytes`; rows that are missing become
/// zero.
void pack_panel(ggml_type type, const uint8_t* rows, size_t row_bytes, size_t count, size_t blocks,
                uint8_t* panel);

}  // namespace restkv
