#include "attention/sparse/antidiagonal.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "attention/attention_precision.h"
#include "attention/softmax_scale.h"
#include "base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/sparse/antidiagonal.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "attention/prefill_operands-inl.h"
#include "base/math-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Packs the queries of one KV head, [stride][padded rows]: row i of each group is stored at [i].
/// Missing rows are 0.
template <class Operands>
void PackQueries(const Heads<const float>& queries, size_t groups, size_t stride, float scale,
                 Operands& packed) {
  const size_t padded_rows = hwy::RoundUpTo(queries.heads * groups, kTileRows);
  packed.ResizeQueries(stride * padded_rows, queries.dim);
  for (size_t i = 0; i < stride; ++i) {
    size_t to = i * padded_rows;
    for (size_t h = 0; h < queries.heads; ++h) {
      for (size_t g = 0; g < groups; ++g, ++to) {
        const size_t row = g * stride + i;
        if (row < queries.rows) {
          packed.SetQuery(to, queries.row(h, row), scale);
        } else {
          packed.ClearQueries(to, to + 1);
        }
      }
    }
    packed.ClearQueries(to, (i + 1) * padded_rows);
  }
}

/// logits [padded rows, kTilePositions] of the packed queries against kTilePositions groups of keys
/// from `tile` on.
template <class Operands>
void AntidiagonalTile(const Operands& queries, size_t padded_rows, const Heads<const float>& keys,
                      size_t kv_head, size_t tile, size_t seen, size_t stride, float softcap,
                      Operands& tile_keys, AlignedVector<float>& logits) {
  tile_keys.ResizeKeys(keys.dim);
  logits.resize(padded_rows * kTilePositions);
  std::fill(logits.begin(), logits.end(), 0.0F);
  for (size_t i = 0; i < stride; ++i) {
    const size_t begin = tile * stride + i;
    if (begin >= seen) break;
    const size_t count = std::min(kTilePositions, (seen - begin + stride - 1) / stride);
    tile_keys.SetKeys(keys.row(kv_head, begin), count, keys.row_stride * stride);
    const size_t first_row = (stride - 1 - i) * padded_rows;
    size_t fetched = 0;
    for (size_t r = 0; r < padded_rows; r += kTileRows) {
      // The next rows are far apart, which the hardware prefetcher cannot predict.
      for (const size_t end = count * (r + kTileRows) / padded_rows; fetched < end; ++fetched) {
        const float* row = keys.row(kv_head, std::min(begin + 1 + fetched * stride, seen - 1));
        for (size_t c = 0; c < keys.dim; c += 16) hwy::Prefetch(row + c);
      }
      tile_keys.template Logits<true>(queries, first_row + r, logits.data() + r * kTilePositions);
    }
  }
  if (softcap > 0) {
    for (float& x : logits) x = softcap * std::tanh(x / softcap);
  }
}

template <class Operands>
void AntidiagonalTiles(const Heads<const float>& queries, const Heads<const float>& keys,
                       size_t first, size_t stride, float scale, float softcap,
                       const Heads<float>& out) {
  const size_t group = queries.heads / keys.heads;
  const size_t seen = first + queries.rows;
  const size_t groups = out.rows;
  const size_t rows = group * groups;
  const size_t padded_rows = hwy::RoundUpTo(rows, kTileRows);
  std::vector<Operands> packed(keys.heads);
  parallel_for(keys.heads, [&](size_t kv_head, size_t) {
    PackQueries(queries.slice_heads(kv_head * group, group), groups, stride, scale,
                packed[kv_head]);
  });
  struct Scratch {
    Operands keys;
    AlignedVector<float> logits;
  };
  std::vector<Scratch> scratch(static_cast<size_t>(num_threads()));
  const size_t key_groups = hwy::DivCeil(seen, stride);
  const size_t tiles = hwy::DivCeil(key_groups, kTilePositions);
  parallel_for(tiles * keys.heads, [&](size_t task, size_t thread) {
    const size_t kv_head = task / tiles;
    const size_t begin = task % tiles * kTilePositions;
    Scratch& s = scratch[thread];
    AntidiagonalTile(packed[kv_head], padded_rows, keys, kv_head, begin, seen, stride, softcap,
                     s.keys, s.logits);
    const size_t count = std::min(kTilePositions, key_groups - begin);
    for (size_t r = 0; r < rows; ++r) {
      std::copy_n(s.logits.data() + r * kTilePositions, count,
                  out.row(kv_head * group + r / groups, r % groups) + begin);
    }
  });
}

void AntidiagonalLogits(const Heads<const float>& queries, const Heads<const float>& keys,
                        size_t first, size_t stride, const AttentionOptions& options, float scale,
                        const Heads<float>& out) {
  WithOperands(options.precision, [&](auto* operands) HWY_ATTR {
    AntidiagonalTiles<std::remove_pointer_t<decltype(operands)>>(queries, keys, first, stride,
                                                                 scale, options.softcap, out);
  });
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(AntidiagonalLogits);

void antidiagonal_logits(Heads<const float> queries, Heads<const float> keys, size_t first,
                         size_t stride, const AttentionOptions& options, Heads<float> out) {
  require_support(options.precision);
  const float scale = softmax_scale(options.scale, keys.dim) / static_cast<float>(stride);
  HWY_DYNAMIC_DISPATCH(AntidiagonalLogits)(queries, keys, first, stride, options, scale, out);
}

}  // namespace restkv
#endif  // HWY_ONCE
