#include "linear/packed_weight.h"

#include <algorithm>
#include <cstdint>
#include <type_traits>

#include "base/int8_dot.h"
#include "base/pages.h"
#include "base/prefetch.h"
#include "base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linear/packed_weight.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "base/int8_dot-inl.h"
#include "hwy/highway.h"
#include "linear/packed_sums-inl.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

#if RESTKV_INT8_DOT
using FloatTag = hn::RebindToFloat<Int8SumTag>;
using PanelFloats = hn::Vec<FloatTag>[kPanelVectors];

/// Loads the halves or bytes that panels store before their quants.
HWY_INLINE void LoadPanelHalves(const uint8_t* from, PanelFloats& out) {
  const hn::Rebind<hwy::float16_t, FloatTag> dh;
#pragma GCC unroll 2
  for (size_t j = 0; j < kPanelVectors; ++j) {
    out[j] = hn::PromoteTo(FloatTag(), hn::LoadU(dh, reinterpret_cast<const hwy::float16_t*>(from) +
                                                         j * hn::Lanes(dh)));
  }
}
template <class Byte>
HWY_INLINE void LoadPanelBytes(const uint8_t* from, PanelFloats& out) {
  const hn::Rebind<Byte, FloatTag> db;
#pragma GCC unroll 2
  for (size_t j = 0; j < kPanelVectors; ++j) {
    const auto bytes = hn::LoadU(db, reinterpret_cast<const Byte*>(from) + j * hn::Lanes(db));
    out[j] = hn::ConvertTo(FloatTag(), hn::PromoteTo(Int8SumTag(), bytes));
  }
}

/// y [kRows, kPanel] = rounded rows times a panel.
template <PackedFormat kFormat, template <PackedFormat, size_t> class Sums, size_t kRows>
HWY_INLINE void MultiplyPanel(const uint8_t* HWY_RESTRICT panel, const QuantizedRows::View x,
                              float* HWY_RESTRICT y, size_t y_stride) {
  const FloatTag d;
  const uint8_t* header = panel;
  const uint8_t* quants = panel + kFormat.header_bytes(x.blocks);
  PanelFloats scales, mins;                // the halves
  PanelFloats block_scales, block_others;  // of a block: its scale, and its min or second scale
  PanelFloats sum[kRows];
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (size_t j = 0; j < kPanelVectors; ++j) sum[i][j] = hn::Zero(d);
  }
  for (size_t b = 0; b < x.blocks; ++b) {
    prefetch(header + kWeightsAhead, kFormat.half_bytes() + kFormat.scale_bytes());
    prefetch(quants + kWeightsAhead, kFormat.quant_bytes());
    if (b % kFormat.together == 0) {
      LoadPanelHalves(header, scales);
      if constexpr (kFormat.has_min()) {
        LoadPanelHalves(header + kFormat.half_bytes() / 2, mins);
      }
      header += kFormat.half_bytes();
    }
    if constexpr (kFormat.scales == 2) {
      using Byte = std::conditional_t<kFormat.has_min(), uint8_t, int8_t>;
      LoadPanelBytes<Byte>(header, block_scales);
      LoadPanelBytes<Byte>(header + kFormat.scale_bytes() / 2, block_others);
      header += kFormat.scale_bytes();
    }
    Sums<kFormat, kRows> sums;
    sums.Multiply(quants, x, b);
    quants += kFormat.quant_bytes();
#pragma GCC unroll 4
    for (size_t i = 0; i < kRows; ++i) {
      const size_t at = i * x.blocks + b;
      const auto x_scale = hn::Set(d, x.scales[at]);
      const auto x_sum = hn::Set(d, static_cast<float>(x.sums[at]) * (-1.0F / kByteOffset));
#pragma GCC unroll 2
      for (size_t j = 0; j < kPanelVectors; ++j) {
        hn::Vec<FloatTag> product;
        if constexpr (kFormat.bits == 6) {
          product = hn::MulAdd(hn::ConvertTo(d, sums.First(i, j)), block_scales[j],
                               hn::Mul(hn::ConvertTo(d, sums.Second(i, j)), block_others[j]));
        } else {
          product = hn::ConvertTo(d, sums.Sum(i, j));
          if constexpr (kFormat.scales == 2) product = hn::Mul(product, block_scales[j]);
        }
        product = hn::Mul(product, scales[j]);
        if constexpr (kFormat.has_min() && kFormat.scales == 2) {
          product = hn::NegMulAdd(hn::Mul(mins[j], block_others[j]), x_sum, product);
        } else if constexpr (kFormat.has_min()) {
          product = hn::MulAdd(mins[j], x_sum, product);
        }
        sum[i][j] = hn::MulAdd(product, x_scale, sum[i][j]);
      }
    }
  }
#pragma GCC unroll 4
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 2
    for (size_t j = 0; j < kPanelVectors; ++j) {
      hn::StoreU(sum[i][j], d, y + i * y_stride + j * hn::Lanes(d));
    }
  }
}

/// Multiplies the first rows of x, up to kRows of them, with the panel. Returns their number.
template <PackedFormat kFormat, template <PackedFormat, size_t> class Sums, size_t kRows>
HWY_INLINE size_t MultiplySome(const uint8_t* HWY_RESTRICT panel, const QuantizedRows::View& x,
                               size_t rows, float* HWY_RESTRICT y, size_t y_stride) {
  if constexpr (kRows > 1) {
    if (rows < kRows) return MultiplySome<kFormat, Sums, kRows - 1>(panel, x, rows, y, y_stride);
  }
  MultiplyPanel<kFormat, Sums, kRows>(panel, x, y, y_stride);
  return kRows;
}

/// y [y.rows, y.cols] = rounded rows from `first` on, times panels.
template <PackedFormat kFormat, template <PackedFormat, size_t> class Sums>
void MultiplyPanels(const uint8_t* HWY_RESTRICT panel, const QuantizedRows::View& first,
                    const Matrix<float>& y) {
  constexpr size_t kPanel = PackedWeight::kPanel;
  constexpr size_t kTogether = Sums<kFormat, 1>::kTogether;
  for (size_t c = 0; c < y.cols; c += kPanel, panel += kFormat.panel_bytes(first.blocks)) {
    const size_t columns = std::min(kPanel, y.cols - c);
    HWY_ALIGN float whole[kTogether * kPanel];  // where y gets a part of the panel
    for (size_t i = 0, done; i < y.rows; i += done) {
      float* const to = columns == kPanel ? y.row(i) + c : whole;
      const size_t stride = columns == kPanel ? y.stride : kPanel;
      done = MultiplySome<kFormat, Sums, kTogether>(panel, first.from(i), y.rows - i, to, stride);
      if (columns == kPanel) continue;
      for (size_t r = 0; r < done; ++r) std::copy_n(whole + r * kPanel, columns, y.row(i + r) + c);
    }
  }
}

void Multiply(ggml_type type, bool dot, const uint8_t* panels, const QuantizedRows::View& x,
              const Matrix<float>& y) {
  with_packed_format(type, [&]<PackedFormat kFormat>() HWY_ATTR {
    if (dot) {
      MultiplyPanels<kFormat, DotSums>(panels, x, y);
    } else {
      MultiplyPanels<kFormat, PairSums>(panels, x, y);
    }
  });
}

#else
void Multiply(ggml_type, bool, const uint8_t*, const QuantizedRows::View&, const Matrix<float>&) {}
#endif

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(Multiply);

bool PackedWeight::supports(ggml_type type) {
  return with_packed_format(type, []<PackedFormat>() {}) && has_int8_pairs();
}

PackedWeight::PackedWeight(const Weight& weight) : type_(weight.type) {
  const size_t blocks = weight.cols / QuantizedRows::kBlock;
  const size_t panels = (weight.rows + kPanel - 1) / kPanel;
  with_packed_format(type_,
                     [&]<PackedFormat kFormat>() { panel_bytes_ = kFormat.panel_bytes(blocks); });
  panels_.resize(panels * panel_bytes_);
  // Each task releases its rows of a large matrix, so that there are never two copies in memory. A
  // release interrupts all processors, so the caller releases the rows of small matrices at once.
  constexpr size_t kLarge = size_t{16} << 20;
  const bool large = weight.in_file && panels_.size() >= kLarge;
  const size_t together = std::max<size_t>(1, (kLarge >> (large ? 4 : 8)) / panel_bytes_);
  parallel_for((panels + together - 1) / together, [&](size_t task, size_t) {
    const size_t first = task * together;
    const size_t last = std::min(panels, first + together);
    const size_t rows = std::min(last * kPanel, weight.rows) - first * kPanel;
    populate_pages(&panels_[first * panel_bytes_], (last - first) * panel_bytes_);
    for (size_t p = first; p < last; ++p) {
      pack_panel(type_, static_cast<const uint8_t*>(weight.row(p * kPanel)), weight.row_stride(),
                 std::min(kPanel, weight.rows - p * kPanel), blocks, &panels_[p * panel_bytes_]);
    }
    if (large) release_pages(weight.row(first * kPanel), weight.span_bytes(rows));
  });
}

bool PackedWeight::needs_first_sums() const {
  bool needs = false;
  with_packed_format(type_, [&]<PackedFormat kFormat>() { needs = kFormat.bits == 6; });
  return needs;
}

void PackedWeight::multiply(const QuantizedRows::View& x, size_t begin, size_t end,
                            Matrix<float> y) const {
  HWY_DYNAMIC_DISPATCH(Multiply)
  (type_, has_int8_dot(), panels_.data() + begin / kPanel * panel_bytes_, x,
   {y.data, y.rows, end - begin, y.stride});
}

}  // namespace restkv
#endif  // HWY_ONCE
