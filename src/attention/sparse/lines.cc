#include "attention/sparse/lines.h"

#include <algorithm>
#include <cmath>

#include "base/threads.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/sparse/lines.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "base/gemm-inl.h"
#include "base/math-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Adds the weights of one head's last queries, `log_sums` being their denominators' logarithms.
void HeadVotes(const SparseLayer& layer, size_t head, float scale, const float* log_sums,
               std::vector<float>& columns, std::vector<float>& diagonals) {
  const hn::CappedTag<float, 16> d;
  constexpr size_t kLanes = hn::MaxLanes(hn::CappedTag<float, 16>());
  const Heads<const float>& keys = layer.keys;
  const Matrix<const float> queries = layer.last_queries.head(head);
  const size_t kv_head = head * keys.heads / layer.last_queries.heads;
  const float softcap = layer.attention.softcap;
  const float query_scale = softcap > 0 ? scale : scale * kLog2E;
  const size_t first = keys.rows - queries.rows;
  const size_t padded_rows = hwy::RoundUpTo(queries.rows, kTileRows);
  AlignedVector<float> packed(padded_rows * keys.dim);
  AlignedVector<float> tile(keys.dim * kTilePositions);
  AlignedVector<float> logits(padded_rows * kTilePositions);
  for (size_t r = 0; r < queries.rows; ++r) {
    const float* q = queries.row(r);
    for (size_t c = 0; c < keys.dim; ++c) packed[r * keys.dim + c] = q[c] * query_scale;
  }
  std::fill(packed.begin() + static_cast<ptrdiff_t>(queries.rows * keys.dim), packed.end(), 0.0F);
  for (size_t k0 = 0; k0 < keys.rows; k0 += kTilePositions) {
    const size_t count = std::min(kTilePositions, keys.rows - k0);
    TransposePadded(keys.row(kv_head, k0), count, keys.dim, keys.row_stride, tile.data(),
                    kTilePositions, kTilePositions);
    for (size_t r = 0; r < padded_rows; r += kTileRows) {
      StripProduct<kTileRows, false>(d, kTilePositions, keys.dim, packed.data() + r * keys.dim,
                                     keys.dim, tile.data(), kTilePositions,
                                     logits.data() + r * kTilePositions, kTilePositions);
    }
    for (size_t r = 0; r < queries.rows; ++r) {
      if (first + r < k0) continue;
      // Keys 0 .. distance of the tile are visible; the first (distance mod 64) + 1 of them lie on
      // one diagonal of tiles, the others on the next nearer one.
      const size_t distance = first + r - k0;
      const auto visible = hn::Set(d, static_cast<float>(std::min(distance, kTilePositions)));
      const auto split = hn::Set(d, static_cast<float>(distance % kTilePositions));
      const auto offset = hn::Set(d, log_sums[r] * kLog2E);
      auto far = hn::Zero(d);
      auto near = hn::Zero(d);
      for (size_t j = 0; j < kTilePositions; j += kLanes) {
        const auto index = hn::Iota(d, static_cast<float>(j));
        auto x = hn::Load(d, logits.data() + r * kTilePositions + j);
        if (softcap > 0) {
          x = hn::Mul(hn::Set(d, softcap * kLog2E),
                      Tanh(d, hn::Mul(x, hn::Set(d, 1.0F / softcap))));
        }
        const auto weight = hn::IfThenElseZero(hn::Le(index, visible), Exp2(d, hn::Sub(x, offset)));
        const auto is_far = hn::Le(index, split);
        far = hn::Add(far, hn::IfThenElseZero(is_far, weight));
        near = hn::Add(near, hn::IfThenZeroElse(is_far, weight));
      }
      const float far_sum = hn::GetLane(hn::SumOfLanes(d, far));
      const float near_sum = hn::GetLane(hn::SumOfLanes(d, near));
      columns[k0 / kTilePositions] += far_sum + near_sum;
      diagonals[distance / kTilePositions] += far_sum;
      if (distance >= kTilePositions) diagonals[distance / kTilePositions - 1] += near_sum;
    }
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(HeadVotes);

LineVotes line_votes(const SparseLayer& layer) {
  const Heads<const float>& queries = layer.last_queries;
  // Attention gives the denominators of the softmax; what it makes of the values, for which a few
  // channels of the keys stand in, is of no interest.
  Heads<const float> values = layer.keys;
  values.dim = std::min<size_t>(values.dim, 16);
  AlignedVector<float> out(queries.heads * queries.rows * values.dim);
  AlignedVector<float> log_sums(queries.heads * queries.rows);
  const Matrix<float> denominators(log_sums.data(), queries.heads, queries.rows);
  prefill_attention(queries, layer.keys, values, layer.keys.rows - queries.rows, layer.attention,
                    {out.data(), queries.heads, queries.rows, values.dim}, denominators);
  const float scale = layer.attention.scale > 0
                          ? layer.attention.scale
                          : 1.0F / std::sqrt(static_cast<float>(layer.keys.dim));
  LineVotes votes;
  const std::vector<float> zeros(tiles_of(layer.keys.rows), 0.0F);
  votes.columns.assign(queries.heads, zeros);
  votes.diagonals.assign(queries.heads, zeros);
  parallel_for(queries.heads, [&](size_t h, size_t) {
    HWY_DYNAMIC_DISPATCH(HeadVotes)
    (layer, h, scale, denominators.row(h), votes.columns[h], votes.diagonals[h]);
  });
  return votes;
}

void Lines::mark(size_t position, size_t tiles, uint8_t* marks) const {
  for (const uint32_t tile : columns) {
    if (tile < tiles) marks[tile] = 1;
  }
  const size_t last = position + kMaskTile - 1;  // of the block
  for (const uint32_t diagonal : diagonals) {
    const size_t nearest = diagonal * kMaskTile;
    if (nearest > last) continue;
    const size_t farthest = nearest + kMaskTile - 1;
    const size_t begin = (position - std::min(position, farthest)) / kMaskTile;
    const size_t end = std::min((last - nearest) / kMaskTile + 1, tiles);
    for (size_t tile = begin; tile < end; ++tile) marks[tile] = 1;
  }
}

}  // namespace restkv
#endif  // HWY_ONCE
