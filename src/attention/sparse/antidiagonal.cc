#include "attention/sparse/antidiagonal.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/sparse/antidiagonal.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "base/gemm-inl.h"
#include "base/math-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// The groups of queries of one KV head against kTilePositions groups of keys from `tile` on.
/// `packed` holds the queries, multiplied by the scale: [stride][rows][d], rows all groups of all
/// query heads of the KV head and as many more as fill the register tile.
void AntidiagonalTile(const float* packed, size_t rows, const Heads<const float>& keys,
                      size_t kv_head, size_t tile, size_t seen, size_t stride, float softcap,
                      AlignedVector<float>& transposed, AlignedVector<float>& logits) {
  static_assert(kTileRows == 6 && kTilePositions == 64);  // as the caller has it
  const hn::CappedTag<float, 16> d;
  const size_t dim = keys.dim;
  transposed.resize(dim * kTilePositions);
  logits.resize(rows * kTilePositions);
  std::fill(logits.begin(), logits.end(), 0.0F);
  for (size_t i = 0; i < stride; ++i) {
    const size_t begin = tile * stride + i;
    if (begin >= seen) break;
    const size_t count = std::min(kTilePositions, (seen - begin + stride - 1) / stride);
    TransposePadded(keys.row(kv_head, begin), count, dim, keys.row_stride * stride,
                    transposed.data(), kTilePositions, kTilePositions);
    const float* queries = packed + (stride - 1 - i) * rows * dim;
    size_t fetched = 0;
    for (size_t r = 0; r < rows; r += kTileRows) {
      // The next rows lie far apart, as the processor does not expect: they are asked for here.
      for (const size_t end = count * (r + kTileRows) / rows; fetched < end; ++fetched) {
        const float* row = keys.row(kv_head, std::min(begin + 1 + fetched * stride, seen - 1));
        for (size_t c = 0; c < dim; c += 16) hwy::Prefetch(row + c);
      }
      StripProduct<kTileRows, true>(d, kTilePositions, dim, queries + r * dim, dim,
                                    transposed.data(), kTilePositions,
                                    logits.data() + r * kTilePositions, kTilePositions);
    }
  }
  if (softcap > 0) {
    for (float& x : logits) x = softcap * std::tanh(x / softcap);
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(AntidiagonalTile);

void antidiagonal_logits(Heads<const float> queries, Heads<const float> keys, size_t first,
                         size_t stride, const AttentionOptions& options,
                         AlignedVector<float>& packed, Heads<float> out) {
  constexpr size_t kTile = 64;        // groups of keys per task
  constexpr size_t kRowMultiple = 6;  // rows of the register tile
  const size_t dim = keys.dim;
  const size_t group = queries.heads / keys.heads;
  const size_t seen = first + queries.rows;
  const size_t query_groups = out.rows;
  const size_t key_groups = (seen + stride - 1) / stride;
  const float scale =
      (options.scale > 0 ? options.scale : 1.0F / std::sqrt(static_cast<float>(dim))) /
      static_cast<float>(stride);
  // [kv_heads][stride][group * query_groups, padded][d]; rows that are not there are 0, padding is
  // whatever it is.
  const size_t used_rows = group * query_groups;
  const size_t rows = (used_rows + kRowMultiple - 1) / kRowMultiple * kRowMultiple;
  packed.resize(keys.heads * stride * rows * dim);
  parallel_for(queries.heads, [&](size_t h, size_t) {
    for (size_t i = 0; i < stride; ++i) {
      float* to =
          packed.data() + ((h / group * stride + i) * rows + h % group * query_groups) * dim;
      for (size_t g = 0; g < query_groups; ++g, to += dim) {
        const size_t row = g * stride + i;
        if (row >= queries.rows) {
          std::fill_n(to, dim, 0.0F);
          continue;
        }
        for (size_t c = 0; c < dim; ++c) to[c] = queries.row(h, row)[c] * scale;
      }
    }
  });
  struct Scratch {
    AlignedVector<float> transposed, logits;
  };
  std::vector<Scratch> scratch(static_cast<size_t>(num_threads()));
  const size_t tiles = (key_groups + kTile - 1) / kTile;
  parallel_for(tiles * keys.heads, [&](size_t task, size_t thread) {
    const size_t kv_head = task / tiles;
    const size_t begin = task % tiles * kTile;
    Scratch& s = scratch[thread];
    HWY_DYNAMIC_DISPATCH(AntidiagonalTile)
    (packed.data() + kv_head * stride * rows * dim, rows, keys, kv_head, begin, seen, stride,
     options.softcap, s.transposed, s.logits);
    const size_t count = std::min(kTile, key_groups - begin);
    for (size_t r = 0; r < used_rows; ++r) {
      std::copy_n(s.logits.data() + r * kTile, count,
                  out.row(kv_head * group + r / query_groups, r % query_groups) + begin);
    }
  });
}

}  // namespace restkv
#endif  // HWY_ONCE
