#include "linear/packed_format.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "linear/k_quants.h"

namespace restkv {
namespace {

constexpr size_t kRows = PackedFormat::kRows;
constexpr size_t kBlock = PackedFormat::kBlock;

/// `PackedFormat::together` blocks of one row in the order of panels, with quants in fours.
template <PackedFormat kFormat>
struct RowBlocks {
  static constexpr size_t kFours = kFormat.quant_bytes() / kRows / 4;
  std::array<const uint8_t*, kFormat.halves> halves;
  std::array<std::array<uint8_t, 2>, kFormat.together> scales;
  std::array<std::array<uint32_t, kFours>, kFormat.together> quants;
};

uint32_t load_four(const uint8_t* p) {
  uint32_t four;
  std::memcpy(&four, p, sizeof(four));
  return four;
}
constexpr uint32_t kLowHalves = 0x0F0F0F0F;

/// Moves bit i of `bits` to the place of the fifth bit of quant i in PackedFormat.
uint32_t spread_fifth_bits(uint32_t bits) {
  uint32_t out = 0;
  for (unsigned v = 0; v < 8; ++v) {
    constexpr uint32_t kToBytes = 1U | 1U << 7 | 1U << 14 | 1U << 21;
    out |= ((((bits >> (4 * v)) & 15U) * kToBytes) & 0x01010101U) << v;
  }
  return out;
}

/// Reads quants 0 to 15 and 16 to 31 of a block from the lower or the upper halves of 32 bytes.
template <class Quants>
void put_halves(const uint8_t* bytes, bool upper, Quants& quants) {
  for (size_t k = 0; k < 4; ++k) {
    const uint32_t first = load_four(bytes + 4 * k);
    const uint32_t second = load_four(bytes + 16 + 4 * k);
    quants[k] = upper ? ((first >> 4) & kLowHalves) | (second & ~kLowHalves)
                      : (first & kLowHalves) | (second & kLowHalves) << 4;
  }
}

/// Reads a block of the file; returns the number of its bytes.
template <PackedFormat kFormat>
size_t read(const uint8_t* block, RowBlocks<kFormat>& out) {
  const uint8_t* from = block;
  for (const uint8_t*& half : out.halves) {
    half = from;
    from += 2;
  }
  auto& quants = out.quants[0];
  if constexpr (kFormat.bits == 5) {
    quants[4] = spread_fifth_bits(load_four(from));
    from += 4;
  }
  constexpr size_t kStored = kFormat.bits == 8 ? 8 : 4;
  for (size_t k = 0; k < kStored; ++k) {
    quants[k] = load_four(from + 4 * k) ^ (kFormat.bits == 8 ? 0x80808080U : 0);
  }
  return static_cast<size_t>(from - block) + 4 * kStored;
}

/// Q4_K, Q5_K: halves, packed scales and mins, fifth bits, quants. Parts 2 i and 2 i + 1 share the
/// bytes of quants; all parts share the bytes of fifth bits.
template <PackedFormat kFormat>
requires(kFormat.scales == 2 && kFormat.has_min()) size_t
    read(const uint8_t* block, RowBlocks<kFormat>& out) {
  constexpr size_t kScales = 4;
  constexpr size_t kUpper = kScales + 12;
  constexpr size_t kLower = kFormat.bits == 5 ? kUpper + kBlock : kUpper;
  out.halves = {block, block + 2};
  for (size_t part = 0; part < kFormat.together; ++part) {
    const auto [scale, min] = scale_pair(block + kScales, part);
    out.scales[part] = {static_cast<uint8_t>(scale), static_cast<uint8_t>(min)};
    put_halves(block + kLower + part / 2 * kBlock, part % 2 != 0, out.quants[part]);
    if constexpr (kFormat.bits == 5) {
      uint32_t fifth = 0;
      for (size_t v = 0; v < 8; ++v) {
        fifth |= ((load_four(block + kUpper + 4 * v) >> part) & 0x01010101U) << v;
      }
      out.quants[part][4] = fifth;
    }
  }
  return kLower + kFormat.together / 2 * kBlock;
}

/// Q6_K: lower bits, upper bits, signed scales, a half.
template <PackedFormat kFormat>
requires(kFormat.bits == 6) size_t read(const uint8_t* block, RowBlocks<kFormat>& out) {
  constexpr size_t kUpper = 128;
  constexpr size_t kScales = kUpper + 64;
  constexpr size_t kSuperScale = kScales + 16;
  out.halves[0] = block + kSuperScale;
  for (size_t part = 0; part < 8; ++part) {
    out.scales[part] = {block[kScales + 2 * part], block[kScales + 2 * part + 1]};
    // Two parts share the bytes of the lower 4 bits, four parts those of the upper 2.
    put_halves(block + part / 4 * 64 + part % 2 * kBlock, part % 4 >= 2, out.quants[part]);
    for (size_t half = 0; half < 2; ++half) {
      const uint8_t* bytes = block + kUpper + part / 4 * kBlock + half * 16;
      uint32_t upper = 0;
      for (size_t v = 0; v < 4; ++v) {
        upper |= ((load_four(bytes + 4 * v) >> (part % 4 * 2)) & 0x03030303U) << 2 * v;
      }
      out.quants[part][4 + half] = upper;
    }
  }
  return kSuperScale + 2;
}

template <PackedFormat kFormat>
void pack_row(const uint8_t* row, size_t r, size_t blocks, uint8_t* panel) {
  uint8_t* header = panel;
  uint8_t* quants = panel + kFormat.header_bytes(blocks);
  RowBlocks<kFormat> some;
  for (size_t b = 0; b < blocks; b += kFormat.together) {
    row += read(row, some);
    for (size_t i = 0; i < kFormat.halves; ++i) {
      std::memcpy(header + (i * kRows + r) * 2, some.halves[i], 2);
    }
    header += kFormat.half_bytes();
    for (size_t part = 0; part < kFormat.together; ++part) {
      for (size_t i = 0; i < kFormat.scales; ++i) header[i * kRows + r] = some.scales[part][i];
      header += kFormat.scale_bytes();
      for (size_t k = 0; k < some.quants[part].size(); ++k) {
        std::memcpy(quants + (k * kRows + r) * 4, &some.quants[part][k], 4);
      }
      quants += kFormat.quant_bytes();
    }
  }
}

}  // namespace

void pack_panel(ggml_type type, const uint8_t* rows, size_t row_bytes, size_t count, size_t blocks,
                uint8_t* panel) {
  with_packed_format(type, [&]<PackedFormat kFormat>() {
    if (count < kRows) std::fill_n(panel, kFormat.panel_bytes(blocks), uint8_t{0});
    for (size_t r = 0; r < count; ++r) pack_row<kFormat>(rows + r * row_bytes, r, blocks, panel);
  });
}

}  // namespace restkv
