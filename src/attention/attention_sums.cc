#include <algorithm>
#include <cmath>

#include "attention/mask.h"
#include "attention/softmax_scale.h"
#include "base/threads.h"
#include "fmt/format.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/attention_sums.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "attention/bias-inl.h"
#include "base/gemm-inl.h"
#include "base/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Logit of a masked key; its weight becomes 2^-126, far below any rounding.
constexpr float kHidden = -1.0e30F;

/// The keys of one tile and their sums.
struct KeyTile {
  size_t begin = 0;                ///< Position of the first key.
  AlignedVector<float> keys = {};  ///< [d, kTilePositions], multiplied by the softmax scale.
  AlignedVector<float> logits = AlignedVector<float>(kTileRows * kTilePositions);
  AlignedVector<float> bias = AlignedVector<float>(kTilePositions);
  bool biased = false;
};

/// Adds the weights of kRows queries, rows i, i + 1, ... of one head, to sums [kTilePositions].
template <size_t kRows>
HWY_INLINE void AddStrip(const Heads<const float>& queries, size_t first,
                         const AttentionOptions& options, const float* lse, size_t head, size_t i,
                         KeyTile& tile, float* HWY_RESTRICT sums) {
  const hn::CappedTag<float, 16> d;
  constexpr size_t kLanes = hn::MaxLanes(hn::CappedTag<float, 16>());
  float* HWY_RESTRICT logits = tile.logits.data();
  StripProduct<kRows, false>(d, kTilePositions, queries.dim, queries.row(head, i),
                             queries.row_stride, tile.keys.data(), kTilePositions, logits,
                             kTilePositions);
  if (options.softcap > 0) SoftCap(options.softcap, logits, kRows * kTilePositions);
  if (tile.biased) AddBias(tile.bias.data(), logits, kRows);
  const size_t window = options.sliding_window;
  const bool masked = options.causal && (first + i + 1 < tile.begin + kTilePositions ||
                                         (window > 0 && first + i + kRows > tile.begin + window));
  if (HWY_UNLIKELY(masked)) {
    for (size_t r = 0; r < kRows; ++r) {
      const size_t end = first + i + r + 1;  // keys [end - window, end) are visible
      const size_t begin = window > 0 && end > window ? end - window : 0;
      const auto within = [&](size_t position) {
        return std::clamp(position, tile.begin, tile.begin + kTilePositions) - tile.begin;
      };
      float* row = logits + r * kTilePositions;
      std::fill(row, row + within(begin), kHidden);
      std::fill(row + within(end), row + kTilePositions, kHidden);
    }
  }
  for (size_t j = 0; j < kTilePositions; j += kLanes) {
    auto total = hn::Load(d, sums + j);
    for (size_t r = 0; r < kRows; ++r) {
      const auto logit = hn::Load(d, logits + r * kTilePositions + j);
      total = hn::Add(total, Exp2(d, hn::Sub(logit, hn::Set(d, lse[i + r] * kLog2E))));
    }
    hn::Store(total, d, sums + j);
  }
}

/// Adds what the keys [tile.begin, key_end) receive from all rows of one head.
void AddTile(const Heads<const float>& queries, size_t first, const AttentionOptions& options,
             const float* lse, size_t head, size_t key_end, const TileMask& mask, KeyTile& tile,
             float* out) {
  HWY_ALIGN float sums[kTilePositions] = {};
  size_t i = 0;
  size_t end = queries.rows;
  if (options.causal) {  // skips rows before the tile and rows beyond the window
    if (tile.begin > first) i = tile.begin - first;
    if (options.sliding_window > 0) {
      end = std::min(end, std::max(key_end - 1 + options.sliding_window, first) - first);
    }
  }
  const auto kept = [&](size_t block) {
    return mask.data == nullptr || tile.begin + kTilePositions > first + block * kMaskTile ||
           mask.row(head, block)[tile.begin / kTilePositions] != 0;
  };
  while (i < end) {  // runs of blocks that keep the tile
    size_t run_end = (i / kMaskTile + 1) * kMaskTile;
    if (!kept(i / kMaskTile)) {
      i = run_end;
      continue;
    }
    while (run_end < end && kept(run_end / kMaskTile)) run_end += kMaskTile;
    run_end = std::min(run_end, end);
    for (; i + kTileRows <= run_end; i += kTileRows) {
      AddStrip<kTileRows>(queries, first, options, lse, head, i, tile, sums);
    }
    for (; i < run_end; ++i) AddStrip<1>(queries, first, options, lse, head, i, tile, sums);
  }
  for (size_t j = tile.begin; j < key_end; ++j) out[j] += sums[j - tile.begin];
}

void AttentionSums(const Heads<const float>& queries, const Heads<const float>& keys, size_t first,
                   const AttentionOptions& options, float scale, const Matrix<const float>& lse,
                   const Matrix<float>& sums, const TileMask& mask) {
  const size_t group = queries.heads / keys.heads;
  const size_t seen = options.causal ? first + queries.rows : keys.rows;
  const size_t tiles = hwy::DivCeil(seen, kTilePositions);
  // Soft-capping needs logits in natural units.
  const float key_scale = options.softcap > 0 ? scale : scale * kLog2E;
  std::vector<KeyTile> scratch(static_cast<size_t>(num_threads()));
  // A task owns its columns of `sums` and adds the rows in order, on any thread.
  parallel_for(tiles * keys.heads, [&](size_t task, size_t thread) {
    const size_t kv_head = task % keys.heads;
    KeyTile& tile = scratch[thread];
    tile.begin = task / keys.heads * kTilePositions;
    tile.keys.resize(keys.dim * kTilePositions);
    const size_t count = std::min(kTilePositions, seen - tile.begin);
    TransposePadded(keys.row(kv_head, tile.begin), count, keys.dim, keys.row_stride,
                    tile.keys.data(), kTilePositions, kTilePositions);
    for (float& x : tile.keys) x *= key_scale;
    tile.biased = TileBias(options.bias, kv_head, tile.begin, count, tile.bias.data());
    for (size_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      AddTile(queries, first, options, lse.row(head), head, tile.begin + count, mask, tile,
              sums.row(head));
    }
  });
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(AttentionSums);

void attention_sums(Heads<const float> queries, Heads<const float> keys, size_t first,
                    const AttentionOptions& options, Matrix<const float> lse, Matrix<float> sums,
                    const TileMask& mask) {
  if (queries.rows == 0) return;
  const size_t seen = options.causal ? first + queries.rows : std::max<size_t>(1, keys.rows);
  if (keys.heads == 0 || queries.heads % keys.heads != 0 || queries.dim != keys.dim ||
      keys.rows < seen || lse.rows != queries.heads || lse.cols != queries.rows ||
      sums.rows != queries.heads || sums.cols < seen) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("attention_sums: shapes do not fit: queries [{}, {}, {}] at position "
                            "{}, keys [{}, {}, {}], lse [{}, {}], sums [{}, {}]",
                            queries.heads, queries.rows, queries.dim, first, keys.heads, keys.rows,
                            keys.dim, lse.rows, lse.cols, sums.rows, sums.cols));
  }
  check_bias("attention_sums", options, keys.heads, seen);
  check_mask("attention_sums", mask, queries.heads, queries.rows, first, options);
  const float scale = softmax_scale(options.scale, keys.dim);
  HWY_DYNAMIC_DISPATCH(AttentionSums)
  (queries, keys, first, options, scale, lse, sums, mask);
}

}  // namespace restkv
#endif  // HWY_ONCE
