#include "linear/packed_weight.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "base/byte_products.h"
#include "base/pages.h"
#include "base/prefetch.h"
#include "base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linear/packed_weight.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "base/byte_products-inl.h"
#include "hwy/highway.h"

#ifndef RESTKV_LINEAR_PACKED_WEIGHT_TYPES_
#define RESTKV_LINEAR_PACKED_WEIGHT_TYPES_
namespace restkv {

/// A block of 32 weights as GGUF stores it: a step (half), perhaps a minimum (half), then the
/// codes. A number is step * (code - offset), or minimum + step * code. Bytes of 4-bit codes hold
/// numbers j and, in their upper halves, j + 16; 8-bit codes have a sign, which the offset takes
/// away.
///
/// A panel has, for each block, the steps of its rows and then their minima; then, for each block,
/// the rows' first four bytes of codes, their next four, and so on.
struct PackedFormat {
  size_t bits;
  bool has_minimum;

  [[nodiscard]] constexpr size_t code_bytes() const { return RoundedRows::kBlock * bits / 8; }
  [[nodiscard]] constexpr size_t header_bytes() const { return has_minimum ? 4 : 2; }
  [[nodiscard]] constexpr size_t block_bytes() const { return header_bytes() + code_bytes(); }
  /// Bytes of a panel before its codes, which begin at a cache line.
  [[nodiscard]] constexpr size_t headers(size_t blocks) const {
    return (blocks * header_bytes() * PackedWeight::kPanel + 63) / 64 * 64;
  }
  [[nodiscard]] constexpr size_t panel_bytes(size_t blocks) const {
    return headers(blocks) + blocks * code_bytes() * PackedWeight::kPanel;
  }
};
constexpr PackedFormat kQ40{4, false};
constexpr PackedFormat kQ41{4, true};
constexpr PackedFormat kQ80{8, false};

/// Calls body.template operator()<format>() for a supported type.
template <class Body>
decltype(auto) with_format(ggml_type type, const Body& body) {
  switch (type) {
    case GGML_TYPE_Q4_0:
      return body.template operator()<kQ40>();
    case GGML_TYPE_Q4_1:
      return body.template operator()<kQ41>();
    default:
      return body.template operator()<kQ80>();
  }
}

/// A rounded row of x, followed by others.
struct RoundedRow {
  const int8_t* codes;
  const float* steps;
  const int32_t* sums;

  [[nodiscard]] RoundedRow after(size_t rows, size_t blocks) const {
    return {codes + rows * blocks * RoundedRows::kBlock, steps + rows * blocks,
            sums + rows * blocks};
  }
};

}  // namespace restkv
#endif

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

#if RESTKV_BYTE_PRODUCTS
void RoundRow(const float* HWY_RESTRICT x, size_t blocks, int8_t* HWY_RESTRICT codes,
              float* HWY_RESTRICT steps, int32_t* HWY_RESTRICT sums) {
  constexpr size_t kBlock = RoundedRows::kBlock;
  size_t b = 0;
  for (; b + 4 <= blocks; b += 4) {
    RoundFourToBytes(x + b * kBlock, kBlock, kBlock, codes + b * kBlock, kBlock, steps + b,
                     sums + b);
  }
  for (; b < blocks; ++b) {
    steps[b] = RoundToBytes(x + b * kBlock, kBlock, codes + b * kBlock, sums + b);
  }
}

/// Rows of x that meet a panel at a time: as many sums as registers hold.
#if HWY_TARGET == HWY_AVX2
constexpr size_t kTogether = 1;
#else
constexpr size_t kTogether = 4;
#endif

/// y [kRows, kPanel] = rounded rows times a panel, which is `blocks` long.
template <PackedFormat kFormat, size_t kRows>
HWY_INLINE void MultiplyPanel(const uint8_t* HWY_RESTRICT panel, size_t blocks, const RoundedRow& x,
                              float* HWY_RESTRICT y, size_t y_stride) {
  constexpr size_t kPanel = PackedWeight::kPanel;
  constexpr size_t kLanes = hn::MaxLanes(ByteSumTag());
  constexpr size_t kVectors = kPanel / kLanes;
  constexpr size_t kHeader = kFormat.header_bytes() * kPanel;
  constexpr size_t kCodes = kFormat.code_bytes() * kPanel;
  constexpr size_t kBlock = RoundedRows::kBlock;
  const ByteSumTag di;
  const hn::RebindToFloat<ByteSumTag> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> dh;
  const uint8_t* headers = panel;
  const uint8_t* codes = panel + kFormat.headers(blocks);
  hn::Vec<decltype(d)> sum[kRows][kVectors];
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (size_t j = 0; j < kVectors; ++j) sum[i][j] = hn::Zero(d);
  }
  for (size_t b = 0; b < blocks; ++b, headers += kHeader, codes += kCodes) {
    prefetch(headers + kWeightsAhead, kHeader);
    prefetch(codes + kWeightsAhead, kCodes);
    // Two sums, since one would wait for itself: of the lower and of the upper halves of the codes,
    // or of every other four. What the offset adds, times the sum of x, comes off first.
    RawByteSums low[kRows][kVectors];
    RawByteSums high[kRows][kVectors];
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) {
      constexpr int kShare = kByteOffset >> (kFormat.bits - 1);
      const auto begin =
          kFormat.has_minimum ? hn::Zero(di) : hn::Set(di, x.sums[i * blocks + b] / kShare);
#pragma GCC unroll 2
      for (size_t j = 0; j < kVectors; ++j) {
        low[i][j] = begin.raw;
        high[i][j] = hn::Zero(di).raw;
      }
    }
    const auto four_of_x = [&](size_t i, size_t at) HWY_ATTR {
      int32_t four;
      std::memcpy(&four, x.codes + (i * blocks + b) * kBlock + at, sizeof(four));
      return hn::Set(di, four).raw;
    };
#pragma GCC unroll 8
    for (size_t k = 0; k < kFormat.code_bytes() / 4; ++k) {
#pragma GCC unroll 2
      for (size_t j = 0; j < kVectors; ++j) {
        const auto code =
            hn::Load(di, reinterpret_cast<const int32_t*>(codes + (k * kPanel + j * kLanes) * 4));
        if constexpr (kFormat.bits == 4) {
          const auto lower = hn::And(code, hn::Set(di, 0x0F0F0F0F)).raw;
          const auto upper = hn::And(code, hn::Set(di, static_cast<int32_t>(0xF0F0F0F0U))).raw;
#pragma GCC unroll 4
          for (size_t i = 0; i < kRows; ++i) {
            low[i][j] = AddByteProducts(low[i][j], lower, four_of_x(i, 4 * k));
            high[i][j] = AddByteProducts(high[i][j], upper, four_of_x(i, kBlock / 2 + 4 * k));
          }
        } else {
#pragma GCC unroll 4
          for (size_t i = 0; i < kRows; ++i) {
            auto& to = k % 2 == 0 ? low[i][j] : high[i][j];
            to = AddByteProducts(to, code.raw, four_of_x(i, 4 * k));
          }
        }
      }
    }
#pragma GCC unroll 2
    for (size_t j = 0; j < kVectors; ++j) {
      const auto half = [&](size_t part) HWY_ATTR {
        return hn::PromoteTo(d, hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(headers) +
                                                  part * kPanel + j * kLanes));
      };
      const auto step = half(0);
#pragma GCC unroll 4
      for (size_t i = 0; i < kRows; ++i) {
        // Upper halves are 16 times their codes.
        const ByteSums upper{high[i][j]};
        const auto both =
            hn::Add(ByteSums{low[i][j]}, kFormat.bits == 4 ? hn::ShiftRight<4>(upper) : upper);
        auto product = hn::Mul(hn::ConvertTo(d, both), step);
        if constexpr (kFormat.has_minimum) {
          const auto x_sum =
              hn::Set(d, static_cast<float>(x.sums[i * blocks + b]) * (-1.0F / kByteOffset));
          product = hn::MulAdd(half(1), x_sum, product);
        }
        sum[i][j] = hn::MulAdd(product, hn::Set(d, x.steps[i * blocks + b]), sum[i][j]);
      }
    }
  }
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (size_t j = 0; j < kVectors; ++j) hn::StoreU(sum[i][j], d, y + i * y_stride + j * kLanes);
  }
}

/// The first rows of x, as many as a panel meets at a time and there are, times the panel. Returns
/// their number.
template <PackedFormat kFormat, size_t kRows = kTogether>
HWY_INLINE size_t MultiplySome(const uint8_t* HWY_RESTRICT panel, size_t blocks,
                               const RoundedRow& x, size_t rows, float* HWY_RESTRICT y,
                               size_t y_stride) {
  if constexpr (kRows > 1) {
    if (rows < kRows) {
      return MultiplySome<kFormat, kRows - 1>(panel, blocks, x, rows, y, y_stride);
    }
  }
  MultiplyPanel<kFormat, kRows>(panel, blocks, x, y, y_stride);
  return kRows;
}

/// y [y.rows, y.cols] = rounded rows from `x` on times panels.
template <PackedFormat kFormat>
void MultiplyPanels(const uint8_t* HWY_RESTRICT panel, size_t blocks, const RoundedRow& first,
                    const Matrix<float>& y) {
  constexpr size_t kPanel = PackedWeight::kPanel;
  for (size_t c = 0; c < y.cols; c += kPanel, panel += kFormat.panel_bytes(blocks)) {
    const size_t columns = std::min(kPanel, y.cols - c);
    RoundedRow x = first;
    for (size_t i = 0, done; i < y.rows; i += done, x = x.after(done, blocks)) {
      if (columns == kPanel) {
        done = MultiplySome<kFormat>(panel, blocks, x, y.rows - i, y.row(i) + c, y.stride);
        continue;
      }
      HWY_ALIGN float whole[kTogether * kPanel];
      done = MultiplySome<kFormat>(panel, blocks, x, y.rows - i, whole, kPanel);
      for (size_t r = 0; r < done; ++r) std::copy_n(whole + r * kPanel, columns, y.row(i + r) + c);
    }
  }
}

void Multiply(ggml_type type, const uint8_t* panels, size_t blocks, const RoundedRow& x,
              const Matrix<float>& y) {
  with_format(type, [&]<PackedFormat kFormat>()
                        HWY_ATTR { MultiplyPanels<kFormat>(panels, blocks, x, y); });
}

#else
void RoundRow(const float*, size_t, int8_t*, float*, int32_t*) {}
void Multiply(ggml_type, const uint8_t*, size_t, const RoundedRow&, const Matrix<float>&) {}
#endif

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(RoundRow);
HWY_EXPORT(Multiply);

/// `panel` from up to kPanel stored rows; what is missing becomes zero.
template <PackedFormat kFormat>
void pack_panel(const char* rows, size_t count, size_t blocks, uint8_t* panel) {
  constexpr size_t kPanel = PackedWeight::kPanel;
  constexpr size_t kHeaderWords = kFormat.header_bytes() / 2;
  constexpr size_t kFours = kFormat.code_bytes() / 4;
  if (count < kPanel) std::fill_n(panel, kFormat.panel_bytes(blocks), uint8_t{0});
  uint8_t* codes = panel + kFormat.headers(blocks);
  for (size_t b = 0; b < blocks; ++b) {
    for (size_t r = 0; r < count; ++r) {
      const char* block = rows + (r * blocks + b) * kFormat.block_bytes();
      for (size_t part = 0; part < kHeaderWords; ++part) {
        std::memcpy(panel + ((b * kHeaderWords + part) * kPanel + r) * 2, block + part * 2, 2);
      }
      for (size_t k = 0; k < kFours; ++k) {
        uint32_t four;
        std::memcpy(&four, block + kFormat.header_bytes() + k * 4, sizeof(four));
        if (kFormat.bits == 8) four ^= 0x80808080U;
        std::memcpy(codes + ((b * kFours + k) * kPanel + r) * 4, &four, sizeof(four));
      }
    }
  }
}

}  // namespace

void RoundedRows::round(Matrix<const float> x) {
  const size_t blocks = x.cols / kBlock;
  if (steps_.size() < x.rows * blocks) {
    codes_.resize(x.rows * x.cols);
    steps_.resize(x.rows * blocks);
    sums_.resize(x.rows * blocks);
  }
  for (size_t r = 0; r < x.rows; ++r) {
    HWY_DYNAMIC_DISPATCH(RoundRow)
    (x.row(r), blocks, &codes_[r * x.cols], &steps_[r * blocks], &sums_[r * blocks]);
  }
}

bool PackedWeight::supports(ggml_type type) {
  return (type == GGML_TYPE_Q4_0 || type == GGML_TYPE_Q4_1 || type == GGML_TYPE_Q8_0) &&
         has_byte_products();
}

PackedWeight::PackedWeight(const Weight& weight)
    : type_(weight.type), rows_(weight.rows), blocks_(weight.cols / RoundedRows::kBlock) {
  const size_t panels = (rows_ + kPanel - 1) / kPanel;
  with_format(type_, [&]<PackedFormat kFormat>() {
    const size_t bytes = kFormat.panel_bytes(blocks_);
    panels_.resize(panels * bytes);
    constexpr size_t kPanelsTogether = 16;
    parallel_for((panels + kPanelsTogether - 1) / kPanelsTogether, [&](size_t task, size_t) {
      const size_t first = task * kPanelsTogether;
      const size_t last = std::min(panels, first + kPanelsTogether);
      populate_pages(&panels_[first * bytes], (last - first) * bytes);
      for (size_t p = first; p < last; ++p) {
        pack_panel<kFormat>(static_cast<const char*>(weight.row(p * kPanel)),
                            std::min(kPanel, rows_ - p * kPanel), blocks_, &panels_[p * bytes]);
      }
    });
  });
}

void PackedWeight::multiply(const RoundedRows& x, size_t begin, size_t end, Matrix<float> y) const {
  const size_t bytes =
      with_format(type_, [&]<PackedFormat kFormat>() { return kFormat.panel_bytes(blocks_); });
  const uint8_t* panels = panels_.data() + begin / kPanel * bytes;
  HWY_DYNAMIC_DISPATCH(Multiply)
  (type_, panels, blocks_, {x.codes(), x.steps(), x.sums()},
   {y.data, y.rows, end - begin, y.stride});
}

}  // namespace restkv
#endif  // HWY_ONCE
