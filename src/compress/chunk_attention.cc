#include "compress/chunk_attention.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>
#include <vector>

#include "attention/attention_precision.h"
#include "base/threads.h"
#include "restkv/aligned.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/chunk_attention.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "attention/prefill_operands-inl.h"
#include "base/math-inl.h"
#include "compress/finite_logits-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

using ChunkTag = hn::CappedTag<float, 16>;
constexpr size_t kChunkLanes = hn::MaxLanes(ChunkTag());

/// A chunk of one KV head, and what one of its query heads is computed with.
template <class Operands>
struct Chunk {
  std::vector<Operands> tiles;  ///< Keys.
  size_t count = 0;             ///< Keys, and queries.
  double missing = 0;           ///< Tokens of zeros behind them.
  Operands queries;
  AlignedVector<float> weights;  ///< [tiles, kTileRows, kTilePositions]; first the logits.
  AlignedVector<float> sums;     ///< [tiles, kTilePositions]

  [[nodiscard]] HWY_INLINE float* Row(size_t tile, size_t row) {
    return weights.data() + (tile * kTileRows + row) * kTilePositions;
  }
  void SetKeys(const Heads<const float>& keys, size_t kv_head, size_t begin, size_t rows) {
    count = rows;
    tiles.resize(hwy::DivCeil(count, kTilePositions));
    for (size_t t = 0; t < tiles.size(); ++t) {
      const size_t first = t * kTilePositions;
      tiles[t].ResizeKeys(keys.dim);
      tiles[t].SetKeys(keys.row(kv_head, begin + first), HWY_MIN(kTilePositions, count - first),
                       keys.row_stride);
    }
    queries.ResizeQueries(hwy::RoundUpTo(count, kTileRows), keys.dim);
    weights.resize(tiles.size() * kTileRows * kTilePositions);
    sums.resize(tiles.size() * kTilePositions);
  }
};

/// Makes the logits of a row, in units of log2, weights that lack a factor, which is returned. The
/// softmax has a column for every missing token, with logit 0, and one for the sink.
template <class Operands>
HWY_INLINE float WeighRow(Chunk<Operands>& chunk, size_t row, float sink) {
  const ChunkTag d;
  const size_t last = chunk.tiles.size() - 1;
  std::fill(chunk.Row(last, row) + (chunk.count - last * kTilePositions),
            chunk.Row(last, row) + kTilePositions, kHiddenLogit);
  auto tops = hn::Set(d, chunk.missing > 0 ? HWY_MAX(0.0F, sink) : sink);
  for (size_t t = 0; t <= last; ++t) {
    const float* logits = chunk.Row(t, row);
    for (size_t j = 0; j < kTilePositions; j += kChunkLanes) {
      tops = hn::Max(tops, hn::Load(d, logits + j));
    }
  }
  const auto top = hn::MaxOfLanes(d, tops);
  auto totals = hn::Zero(d);
  for (size_t t = 0; t <= last; ++t) {
    float* weights = chunk.Row(t, row);
    for (size_t j = 0; j < kTilePositions; j += kChunkLanes) {
      const auto weight = Exp2<Operands::kExpDegree>(d, hn::Sub(hn::Load(d, weights + j), top));
      hn::Store(weight, d, weights + j);
      totals = hn::Add(totals, weight);
    }
  }
  const double largest{hn::GetLane(top)};
  const double total = double{hn::GetLane(hn::SumOfLanes(d, totals))} +
                       chunk.missing * std::exp2(-largest) + std::exp2(double{sink} - largest);
  return static_cast<float>(1 / total);
}

/// What the chunk's keys get from the queries of one head, in `sums`. False: a logit is not finite.
template <class Operands>
bool AddUp(Chunk<Operands>& chunk, float softcap, float sink) {
  const ChunkTag d;
  std::fill(chunk.sums.begin(), chunk.sums.end(), 0.0F);
  for (size_t first = 0; first < chunk.count; first += kTileRows) {
    for (size_t t = 0; t < chunk.tiles.size(); ++t) {
      if (!FiniteLogits(chunk.tiles[t], chunk.queries, first, softcap, nullptr, chunk.Row(t, 0))) {
        return false;
      }
    }
    const size_t rows = HWY_MIN(kTileRows, chunk.count - first);
    float factors[kTileRows];
    for (size_t r = 0; r < rows; ++r) factors[r] = WeighRow(chunk, r, sink);
    for (size_t t = 0; t < chunk.tiles.size(); ++t) {
      float* sums = chunk.sums.data() + t * kTilePositions;
      for (size_t j = 0; j < kTilePositions; j += kChunkLanes) {
        auto sum = hn::Load(d, sums + j);
        for (size_t r = 0; r < rows; ++r) {
          sum = hn::MulAdd(hn::Set(d, factors[r]), hn::Load(d, chunk.Row(t, r) + j), sum);
        }
        hn::Store(sum, d, sums + j);
      }
    }
  }
  return true;
}

template <class Operands>
bool SumsIn(const Heads<const float>& queries, const Heads<const float>& keys,
            const ChunkAttention& options, const Matrix<float>& sums) {
  const size_t group = queries.heads / keys.heads;
  const float scale = options.softcap > 0 ? 1.0F : kLog2E;  // soft-capping needs natural units
  std::vector<Chunk<Operands>> scratch(static_cast<size_t>(num_threads()));
  std::atomic<bool> finite = true;
  const size_t chunks = hwy::DivCeil(queries.rows, options.length);
  parallel_for(chunks * keys.heads, [&](size_t task, size_t thread) HWY_ATTR {
    Chunk<Operands>& chunk = scratch[thread];
    const size_t kv_head = task % keys.heads;
    const size_t begin = task / keys.heads * options.length;
    chunk.SetKeys(keys, kv_head, begin, HWY_MIN(options.length, queries.rows - begin));
    chunk.missing = static_cast<double>(options.length - chunk.count);
    const auto from_missing =
        static_cast<float>(chunk.missing / static_cast<double>(options.length));
    for (size_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
      for (size_t r = 0; r < chunk.count; ++r) {
        chunk.queries.SetQuery(r, queries.row(head, begin + r), scale);
      }
      chunk.queries.ClearQueries(chunk.count, hwy::RoundUpTo(chunk.count, kTileRows));
      const float sink =
          options.sink_logits.empty() ? kHiddenLogit : options.sink_logits[head] * kLog2E;
      if (!AddUp(chunk, options.softcap, sink)) finite = false;
      float* to = sums.row(head) + begin;
      for (size_t j = 0; j < chunk.count; ++j) to[j] = chunk.sums[j] + from_missing;
    }
  });
  return finite;
}

bool ChunkAttentionSums(const Heads<const float>& queries, const Heads<const float>& keys,
                        const ChunkAttention& options, const Matrix<float>& sums) {
  bool finite = false;
  WithOperands(options.precision, [&](auto* operands) HWY_ATTR {
    finite = SumsIn<std::remove_pointer_t<decltype(operands)>>(queries, keys, options, sums);
  });
  return finite;
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(ChunkAttentionSums);

bool chunk_attention_sums(Heads<const float> queries, Heads<const float> keys,
                          const ChunkAttention& options, Matrix<float> sums) {
  require_support(options.precision);
  return HWY_DYNAMIC_DISPATCH(ChunkAttentionSums)(queries, keys, options, sums);
}

}  // namespace restkv
#endif
