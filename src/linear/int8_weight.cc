#include "linear/int8_weight.h"

#include <algorithm>

#include "base/int8_dot.h"
#include "base/threads.h"
#include "linear/quantized_rows.h"
#include "linear/tiles.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "linear/int8_weight.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "base/int8_dot-inl.h"
#include "hwy/highway.h"

#ifndef RESTKV_LINEAR_INT8_WEIGHT_TYPES_
#define RESTKV_LINEAR_INT8_WEIGHT_TYPES_
namespace restkv {

/// Rows of x in 8 bits, or a range of their blocks.
struct Int8Inputs {
  QuantizedRows::View x;
  size_t rows;

  [[nodiscard]] Int8Inputs slice(size_t row, size_t count, size_t block) const {
    return {x.from(row, block), count};
  }
};

/// A range of blocks of a panel of weights.
struct Int8Panel {
  const uint8_t* quants;
  const float* scales;
  size_t blocks;
};

}  // namespace restkv
#endif

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

#if RESTKV_INT8_DOT
void RoundWeights(const float* HWY_RESTRICT x, size_t n, int8_t* HWY_RESTRICT quants,
                  float* HWY_RESTRICT scales) {
  RoundBlocksToInt8<Int8Weight::kBlock>(x, n, quants, scales, nullptr);
}

/// Stores the quants [kPanel, bytes] of a panel's outputs in the order of Int8Weight.
void PackPanel(const int8_t* HWY_RESTRICT quants, size_t bytes, uint8_t* HWY_RESTRICT out) {
  PackOffsetBytes<Int8Weight::kPanel>(quants, bytes, out);
}

/// y [min(kRows, rows of x), kPanel] (+)= x times a range of blocks of a panel.
template <bool kDot, size_t kRows = kTileRows>
HWY_INLINE void MultiplyStrip(const Int8Inputs& in, const Int8Panel& w, bool accumulate,
                              const Matrix<float>& y) {
  if constexpr (kRows > 1) {
    if (in.rows < kRows) return MultiplyStrip<kDot, kRows - 1>(in, w, accumulate, y);
  }
  constexpr size_t kBlock = Int8Weight::kBlock;
  constexpr size_t kPanel = Int8Weight::kPanel;
  // Sums are collected here, not in y. Rows of y may be a multiple of 4096 bytes apart, and such
  // stores and loads alias (4K aliasing).
  HWY_ALIGN float sums[kRows * kPanel];
  Int8Factors f{.fours = kBlock / 4,
                .a = reinterpret_cast<const uint8_t*>(in.x.quants),
                .a_stride = in.x.blocks * kBlock,
                .a_scales = in.x.scales,
                .a_sums = in.x.sums,
                .scale_stride = in.x.blocks,
                .b = w.quants,
                .b_stride = kPanel * 4,
                .b_scales = w.scales};
  Int8StripProduct<OffsetSide::kB, kDot, false, kRows>(f, kPanel, sums, kPanel);
  for (size_t b = 1; b < w.blocks; ++b) {
    f.a += kBlock;
    ++f.a_scales;
    ++f.a_sums;
    f.b += kBlock * kPanel;
    f.b_scales += kPanel;
    Int8StripProduct<OffsetSide::kB, kDot, true, kRows>(f, kPanel, sums, kPanel);
  }
  const hn::ScalableTag<float> d;
  for (size_t i = 0; i < kRows; ++i) {
    for (size_t c = 0; c < kPanel; c += hn::Lanes(d)) {
      auto sum = hn::Load(d, sums + i * kPanel + c);
      if (accumulate) sum = hn::Add(sum, hn::LoadU(d, y.row(i) + c));
      hn::StoreU(sum, d, y.row(i) + c);
    }
  }
}

/// y [x.rows, kPanel] = x times a whole panel. Ranges of blocks that fit the first-level cache are
/// multiplied with all rows in turn.
template <bool kDot>
void MultiplyPanelBy(const Int8Inputs& x, const Int8Panel& w, const Matrix<float>& y) {
  constexpr size_t kBlocks = 12;
  constexpr size_t kBlock = Int8Weight::kBlock;
  constexpr size_t kPanel = Int8Weight::kPanel;
  for (size_t b = 0; b < w.blocks; b += kBlocks) {
    const Int8Panel part{w.quants + b * kBlock * kPanel, w.scales + b * kPanel,
                         std::min(kBlocks, w.blocks - b)};
    for (size_t i = 0; i < x.rows; i += kTileRows) {
      const size_t rows = std::min(kTileRows, x.rows - i);
      MultiplyStrip<kDot>(x.slice(i, rows, b), part, b > 0, y.slice(i, rows));
    }
  }
}

void MultiplyPanel(bool dot, const Int8Inputs& x, const Int8Panel& w, const Matrix<float>& y) {
  if (dot) {
    MultiplyPanelBy<true>(x, w, y);
  } else {
    MultiplyPanelBy<false>(x, w, y);
  }
}

#else
void RoundWeights(const float*, size_t, int8_t*, float*) {}
void PackPanel(const int8_t*, size_t, uint8_t*) {}
void MultiplyPanel(bool, const Int8Inputs&, const Int8Panel&, const Matrix<float>&) {}
#endif

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(RoundWeights);
HWY_EXPORT(PackPanel);
HWY_EXPORT(MultiplyPanel);

void Int8Weight::convert(size_t rows, size_t cols, FunctionRef<void(size_t r, float* out)> row) {
  rows_ = rows;
  cols_ = cols;
  const size_t panels = (rows + kPanel - 1) / kPanel;
  const size_t bytes = blocks() * kBlock;
  quants_.resize(panels * kPanel * bytes);
  scales_.resize(panels * kPanel * blocks());
  parallel_for(panels, [&](size_t panel, size_t) {
    thread_local AlignedVector<float> floats;  // reused between calls
    thread_local AlignedVector<int8_t> quants;
    thread_local AlignedVector<float> scales;
    floats.resize(cols);
    quants.resize(kPanel * bytes);
    scales.resize(blocks());
    // Missing outputs of the last panel are computed, too, from zeros.
    std::fill(quants.begin(), quants.end(), int8_t{0});
    float* panel_scales = scales_.data() + panel * kPanel * blocks();
    std::fill_n(panel_scales, kPanel * blocks(), 0.0F);
    for (size_t lane = 0; lane < std::min(kPanel, rows - panel * kPanel); ++lane) {
      row(panel * kPanel + lane, floats.data());
      HWY_DYNAMIC_DISPATCH(RoundWeights)
      (floats.data(), cols, &quants[lane * bytes], scales.data());
      for (size_t b = 0; b < blocks(); ++b) panel_scales[b * kPanel + lane] = scales[b];
    }
    HWY_DYNAMIC_DISPATCH(PackPanel)(quants.data(), bytes, &quants_[panel * kPanel * bytes]);
  });
}

void Int8Weight::multiply(Matrix<const float> x, Matrix<float> y, size_t first) const {
  thread_local QuantizedRows rounded;  // reused between calls
  rounded.round(x);
  const bool dot = has_int8_dot();
  const Int8Inputs inputs{rounded.view(), x.rows};  // tasks would see their own thread_locals

  // Columns are counted from the first panel; those of y begin at `skipped`.
  static_assert(kTileColumns % kPanel == 0);
  const size_t skipped = first % kPanel;
  const size_t first_panel = first / kPanel;
  for_each_tile(
      x.rows, skipped + y.cols, [&](size_t row, size_t rows, size_t column, size_t columns) {
        thread_local AlignedVector<float> broken;  // the result of a panel that y gets a part of
        for (size_t c = column; c < column + columns; c += kPanel) {
          const size_t panel = first_panel + c / kPanel;
          const Int8Panel weights{quants_.data() + panel * blocks() * kBlock * kPanel,
                                  scales_.data() + panel * blocks() * kPanel, blocks()};
          const size_t begin = std::max(c, skipped);
          const size_t end = std::min(c + kPanel, skipped + y.cols);
          float* target = y.row(row) + begin - skipped;
          if (end - begin == kPanel) {
            HWY_DYNAMIC_DISPATCH(MultiplyPanel)
            (dot, inputs.slice(row, rows, 0), weights, {target, rows, kPanel, y.stride});
            continue;
          }
          broken.resize(rows * kPanel);
          HWY_DYNAMIC_DISPATCH(MultiplyPanel)
          (dot, inputs.slice(row, rows, 0), weights, {broken.data(), rows, kPanel});
          for (size_t i = 0; i < rows; ++i) {
            std::copy_n(&broken[i * kPanel + begin - c], end - begin, target + i * y.stride);
          }
        }
      });
}

}  // namespace restkv
#endif  // HWY_ONCE
