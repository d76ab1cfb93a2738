#include "linear/packed_format.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "linear/k_quants.h"

namespace restkv {
namespace {

constexpr size_t kRows = PackedFormat::kRows;
constexpr size_t kBlock = PackedFormat::kBlock;

/// Bytes of one row's codes in a block.
constexpr size_t row_bytes(PackedFormat format) { return format.code_bytes() / kRows; }

/// What `PackedFormat::together` blocks of one row are, in the order of panels.
template <PackedFormat kFormat>
struct RowBlocks {
  std::array<const uint8_t*, kFormat.halves> halves;
  std::array<std::array<uint8_t, 2>, kFormat.together> scales;
  std::array<std::array<uint8_t, row_bytes(kFormat)>, kFormat.together> codes;
};

/// The upper bits of a block's codes of 5 bits, bit i being that of code i.
void put_fifth_bits(uint32_t bits, uint8_t* out) {
  for (unsigned i = 0; i < 4; ++i) {
    unsigned byte = 0;
    for (unsigned v = 0; v < 8; ++v) byte |= ((bits >> (4 * v + i)) & 1U) << v;
    out[i] = static_cast<uint8_t>(byte);
  }
}

/// Reads them as they are in the file; returns the bytes they take there.
template <PackedFormat kFormat>
size_t read(const uint8_t* block, RowBlocks<kFormat>& out) {
  const uint8_t* from = block;
  for (const uint8_t*& half : out.halves) {
    half = from;
    from += 2;
  }
  auto& codes = out.codes[0];
  if constexpr (kFormat.bits == 5) {
    uint32_t fifth;
    std::memcpy(&fifth, from, sizeof(fifth));
    put_fifth_bits(fifth, &codes[16]);
    std::copy_n(from + sizeof(fifth), 16, codes.begin());
  } else {
    std::copy_n(from, codes.size(), codes.begin());
    if constexpr (kFormat.bits == 8) {
      for (uint8_t& code : codes) code ^= kFormat.offset();
    }
  }
  return 2 * kFormat.halves + codes.size();
}

/// Q4_K, Q5_K: halves, packed scales and minima, upper bits of 5, codes. Parts 2 i and 2 i + 1
/// share bytes of codes, all of them those of upper bits.
template <PackedFormat kFormat>
requires(kFormat.scales == 2 && kFormat.has_minimum()) size_t
    read(const uint8_t* block, RowBlocks<kFormat>& out) {
  constexpr size_t kScales = 4;
  constexpr size_t kUpper = kScales + 12;
  constexpr size_t kLower = kFormat.bits == 5 ? kUpper + kBlock : kUpper;
  out.halves = {block, block + 2};
  for (size_t part = 0; part < kFormat.together; ++part) {
    const auto [scale, minimum] = scale_pair(block + kScales, part);
    out.scales[part] = {static_cast<uint8_t>(scale), static_cast<uint8_t>(minimum)};
    const uint8_t* codes = block + kLower + part / 2 * kBlock;
    for (size_t i = 0; i < 16; ++i) {
      out.codes[part][i] =
          static_cast<uint8_t>(part % 2 == 0 ? (codes[i] & 15) | codes[i + 16] << 4
                                             : codes[i] >> 4 | (codes[i + 16] & 0xF0));
    }
    if constexpr (kFormat.bits == 5) {
      uint32_t fifth = 0;
      for (size_t i = 0; i < kBlock; ++i) fifth |= ((block[kUpper + i] >> part) & 1U) << i;
      put_fifth_bits(fifth, &out.codes[part][16]);
    }
  }
  return kLower + kFormat.together / 2 * kBlock;
}

size_t read(const uint8_t* block, RowBlocks<kPackedQ6K>& out) {
  out.halves[0] = block + 208;
  for (size_t part = 0; part < 8; ++part) {
    out.scales[part] = {block[192 + 2 * part], block[193 + 2 * part]};
    // Two parts share bytes of the lower 4 bits, four of the upper 2.
    const uint8_t* low = block + part / 4 * 64 + part % 2 * kBlock;
    const uint8_t* high = block + 128 + part / 4 * kBlock;
    const size_t high_shift = part % 4 * 2;
    auto& codes = out.codes[part];
    for (size_t i = 0; i < 16; ++i) {
      codes[i] = static_cast<uint8_t>(part % 4 < 2 ? (low[i] & 15) | low[i + 16] << 4
                                                   : low[i] >> 4 | (low[i + 16] & 0xF0));
    }
    for (size_t i = 0; i < 8; ++i) {
      const uint8_t* first = high + i / 4 * 16 + i % 4;
      unsigned bits = 0;
      for (size_t v = 0; v < 4; ++v) bits |= ((unsigned{first[4 * v]} >> high_shift) & 3U) << 2 * v;
      codes[16 + i] = static_cast<uint8_t>(bits);
    }
  }
  return 210;
}

template <PackedFormat kFormat>
void pack_row(const uint8_t* row, size_t r, size_t blocks, uint8_t* panel) {
  uint8_t* header = panel;
  uint8_t* codes = panel + kFormat.header_bytes(blocks);
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
      for (size_t i = 0; i < row_bytes(kFormat); i += 4) {
        std::memcpy(codes + (i / 4 * kRows + r) * 4, &some.codes[part][i], 4);
      }
      codes += kFormat.code_bytes();
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
