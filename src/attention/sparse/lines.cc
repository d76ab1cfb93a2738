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

/// The running maximum of a row is raised only when a logit exceeds it by this much, in powers of
/// two, so that most tiles of a row share one.
constexpr float kMaxSlack = 8.0F;
constexpr float kNoMaximum = -1.0e30F;

/// Unnormalised attention of one query to one tile of keys: sums of 2^(logit - offset).
struct RowVotes {
  float offset = kNoMaximum;
  float far = 0;   ///< To keys on the farther of the two diagonals of tiles that cross the tile.
  float near = 0;  ///< To keys on the nearer one.
};

/// Adds the weights of one head's last queries. Weights are summed tile by tile; they are
/// normalised at the end, when the sums of the rows are known.
void HeadVotes(const SparseLayer& layer, size_t head, float scale, std::vector<float>& columns,
               std::vector<float>& diagonals) {
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
  std::vector<RowVotes> votes(columns.size() * queries.rows);
  std::vector<float> maximum(queries.rows, kNoMaximum);
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
      // Keys 0 .. distance of the tile are visible. The first (distance mod 64) + 1 of them belong
      // to one diagonal of tiles, the others to the next nearer one.
      const size_t distance = first + r - k0;
      const auto visible = hn::Set(d, static_cast<float>(std::min(distance, kTilePositions)));
      const auto split = hn::Set(d, static_cast<float>(distance % kTilePositions));
      float* HWY_RESTRICT row = logits.data() + r * kTilePositions;
      auto top = hn::Set(d, kNoMaximum);
      for (size_t j = 0; j < kTilePositions; j += kLanes) {
        auto x = hn::Load(d, row + j);
        if (softcap > 0) {
          x = hn::Mul(hn::Set(d, softcap * kLog2E),
                      Tanh(d, hn::Mul(x, hn::Set(d, 1.0F / softcap))));
          hn::Store(x, d, row + j);
        }
        const auto index = hn::Iota(d, static_cast<float>(j));
        top = hn::IfThenElse(hn::Le(index, visible), hn::Max(top, x), top);
      }
      if (!hn::AllFalse(d, hn::Gt(top, hn::Set(d, maximum[r] + kMaxSlack)))) {
        maximum[r] = hn::GetLane(hn::MaxOfLanes(d, top));
      }
      const auto offset = hn::Set(d, maximum[r]);
      auto far = hn::Zero(d);
      auto near = hn::Zero(d);
      for (size_t j = 0; j < kTilePositions; j += kLanes) {
        const auto index = hn::Iota(d, static_cast<float>(j));
        const auto x = hn::Sub(hn::Load(d, row + j), offset);
        const auto weight = hn::IfThenElseZero(hn::Le(index, visible), Exp2(d, x));
        const auto is_far = hn::Le(index, split);
        far = hn::Add(far, hn::IfThenElseZero(is_far, weight));
        near = hn::Add(near, hn::IfThenZeroElse(is_far, weight));
      }
      votes[k0 / kTilePositions * queries.rows + r] = {
          maximum[r], hn::GetLane(hn::SumOfLanes(d, far)), hn::GetLane(hn::SumOfLanes(d, near))};
    }
  }
  for (size_t r = 0; r < queries.rows; ++r) {
    const size_t tiles = (first + r) / kTilePositions + 1;  // visible ones
    const auto factor = [&](const RowVotes& v) {
      return v.offset == maximum[r] ? 1.0F : std::exp2(v.offset - maximum[r]);
    };
    double total = 0;
    for (size_t t = 0; t < tiles; ++t) {
      const RowVotes& v = votes[t * queries.rows + r];
      total += double{factor(v)} * (v.far + v.near);
    }
    const auto inverse = static_cast<float>(1 / total);
    for (size_t t = 0; t < tiles; ++t) {
      const RowVotes& v = votes[t * queries.rows + r];
      const float share = factor(v) * inverse;
      const size_t diagonal = (first + r - t * kTilePositions) / kTilePositions;
      columns[t] += share * (v.far + v.near);
      diagonals[diagonal] += share * v.far;
      if (diagonal > 0) diagonals[diagonal - 1] += share * v.near;
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
  const float scale = layer.attention.scale > 0
                          ? layer.attention.scale
                          : 1.0F / std::sqrt(static_cast<float>(layer.keys.dim));
  LineVotes votes;
  const std::vector<float> zeros(tiles_of(layer.keys.rows), 0.0F);
  votes.columns.assign(queries.heads, zeros);
  votes.diagonals.assign(queries.heads, zeros);
  parallel_for(queries.heads, [&](size_t h, size_t) {
    HWY_DYNAMIC_DISPATCH(HeadVotes)
    (layer, h, scale, votes.columns[h], votes.diagonals[h]);
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
