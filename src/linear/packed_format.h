#pragma once

#include <ggml.h>

#include <array>
#include <cstddef>
#include <cstdint>

#include "linear/quantized_rows.h"

namespace restkv {

/// Layout of a panel of 16 rows of weights, in blocks of 32 numbers along the rows.
///
/// A number is scale * (quant - offset), or scale * quant + min. Each row has halves for `together`
/// blocks: the scale and, if `has_min`, the min. If `scales` is 2, each block also has two bytes
/// that multiply those halves: its scale and min, or, with 6 bits, signed scales of its two halves.
///
/// These numbers come first, block by block, and row by row within each kind. The quants start at
/// the next cache line, block by block: four bytes of each row, then the next four, and so on.
/// - 4 bits: byte j holds quant j in its lower half and quant j + 16 in its upper half.
/// - 5 bits: as with 4 bits, then four bytes of fifth bits. Bit v of byte i belongs to quant 4 v +
/// i,
///   bit 4 + v to quant 16 + 4 v + i.
/// - 6 bits: as with 4 bits, then eight bytes of upper bits. Bits 2 v and 2 v + 1 of byte i belong
/// to
///   quant 4 v + i, those of byte 4 + i to quant 16 + 4 v + i.
struct PackedFormat {
  size_t bits;
  size_t halves;
  size_t together = 1;
  size_t scales = 0;

  static constexpr size_t kBlock = QuantizedRows::kBlock;
  static constexpr size_t kRows = 16;

  [[nodiscard]] constexpr bool has_min() const { return halves == 2; }
  /// The offset of quants. With 8 bits it makes signed quants unsigned.
  [[nodiscard]] constexpr int offset() const { return has_min() ? 0 : 1 << (bits - 1); }

  /// Bytes of all rows together: halves, the scales of a block, the quants of a block, everything
  /// before the quants, the panel.
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

/// Calls body.template operator()<format>() if the type has a packed format; returns whether it
/// has.
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

/// Packs `count` stored rows, `row_bytes` apart, into `panel`. Missing rows become zeros.
void pack_panel(ggml_type type, const uint8_t* rows, size_t row_bytes, size_t count, size_t blocks,
                uint8_t* panel);

}  // namespace restkv
