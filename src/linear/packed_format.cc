#include "linear/packed_format.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "linear/k_quants.h"

namespace restkv {
namespace {

constexpr size_t kRows = PackedFormat::kRows;
constexpr size_t kBlock = PackedFormat::kBlock;

/// What `PackedFormat::together` blocks of one row are in the file.
struct StoredBlocks {
  std::array<const uint8_t*, 2> halves{};
  std::array<std::array<uint8_t, 2>, 8> scales{};
  std::array<std::array<uint8_t, kBlock>, 8> codes{};
};

/// Blocks of a step, perhaps a minimum, and codes of 4 or 8 bits.
template <PackedFormat kFormat>
size_t read(const uint8_t* block, StoredBlocks& out) {
  for (size_t i = 0; i < kFormat.halves; ++i) out.halves[i] = block + 2 * i;
  const uint8_t* codes = block + 2 * kFormat.halves;
  for (size_t i = 0; i < kBlock; ++i) {
    if constexpr (kFormat.bits == 8) {
      out.codes[0][i] = codes[i] ^ 128;
    } else {
      out.codes[0][i] = i < 16 ? codes[i] & 15 : codes[i - 16] >> 4;
    }
  }
  return 2 * kFormat.halves + kFormat.code_bytes() / kRows;
}

template <>
size_t read<kPackedQ4K>(const uint8_t* block, StoredBlocks& out) {
  out.halves = {block, block + 2};
  for (size_t part = 0; part < 8; ++part) {
    const auto [scale, minimum] = scale_pair(block + 4, part);
    out.scales[part] = {static_cast<uint8_t>(scale), static_cast<uint8_t>(minimum)};
    const uint8_t* codes = block + 16 + part / 2 * kBlock;
    for (size_t i = 0; i < kBlock; ++i) {
      out.codes[part][i] = part % 2 == 0 ? codes[i] & 15 : codes[i] >> 4;
    }
  }
  return 144;
}

template <>
size_t read<kPackedQ6K>(const uint8_t* block, StoredBlocks& out) {
  out.halves[0] = block + 208;
  for (size_t part = 0; part < 8; ++part) {
    out.scales[part] = {block[192 + 2 * part], block[193 + 2 * part]};
    // Of each half of the block, codes of 32 numbers share bytes with those 64 numbers on.
    const uint8_t* low = block + part / 4 * 64 + part % 2 * kBlock;
    const uint8_t* high = block + 128 + part / 4 * kBlock;
    const size_t low_shift = part % 4 / 2 * 4;
    const size_t high_shift = part % 4 * 2;
    for (size_t i = 0; i < kBlock; ++i) {
      out.codes[part][i] =
          static_cast<uint8_t>(((low[i] >> low_shift) & 15) | ((high[i] >> high_shift) & 3) << 4);
    }
  }
  return 210;
}

/// A row's codes of a block in the order of PackedFormat, four bytes at a time.
template <PackedFormat kFormat>
void order(const std::array<uint8_t, kBlock>& codes,
           std::array<uint8_t, kFormat.code_bytes() / kRows>& out) {
  if constexpr (kFormat.bits == 8) {
    out = codes;
  } else {
    for (size_t i = 0; i < 16; ++i) {
      out[i] = static_cast<uint8_t>((codes[i] & 15) | (codes[i + 16] & 15) << 4);
    }
    if constexpr (kFormat.bits == 6) {
      for (size_t i = 0; i < 4; ++i) {
        const auto upper = [&](size_t first) {
          unsigned bits = 0;
          for (size_t v = 0; v < 4; ++v) bits |= unsigned{codes[first + 4 * v + i]} >> 4 << 2 * v;
          return static_cast<uint8_t>(bits);
        };
        out[16 + i] = upper(0);
        out[20 + i] = upper(16);
      }
    }
  }
}

template <PackedFormat kFormat>
void pack(const uint8_t* row, size_t r, size_t blocks, uint8_t* panel) {
  uint8_t* header = panel;
  uint8_t* codes = panel + kFormat.header_bytes(blocks);
  StoredBlocks stored;
  std::array<uint8_t, kFormat.code_bytes() / kRows> ordered;
  for (size_t b = 0; b < blocks; b += kFormat.together) {
    row += read<kFormat>(row, stored);
    for (size_t i = 0; i < kFormat.halves; ++i) {
      std::memcpy(header + (i * kRows + r) * 2, stored.halves[i], 2);
    }
    header += kFormat.half_bytes();
    for (size_t part = 0; part < kFormat.together; ++part) {
      for (size_t i = 0; i < kFormat.scales; ++i) header[i * kRows + r] = stored.scales[part][i];
      header += kFormat.scale_bytes();
      order<kFormat>(stored.codes[part], ordered);
      for (size_t i = 0; i < ordered.size(); i += 4) {
        std::memcpy(codes + (i / 4 * kRows + r) * 4, &ordered[i], 4);
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
    for (size_t r = 0; r < count; ++r) pack<kFormat>(rows + r * row_bytes, r, blocks, panel);
  });
}

}  // namespace restkv
