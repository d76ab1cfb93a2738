#include "attention/sparse/sampled_attention.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "attention/attention_precision.h"
#include "attention/softmax_scale.h"
#include "base/threads.h"
#include "restkv/aligned.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/sparse/sampled_attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "attention/prefill_operands-inl.h"
#include "base/math-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Rows of a block of queries that are sampled, in ascending order.
std::vector<size_t> SampledRows(size_t rows, size_t samples) {
  std::vector<size_t> sampled;
  for (size_t begin = 0; begin < rows; begin += kMaskTile) {
    for (size_t s = 0; s < samples; ++s) {
      sampled.push_back(std::min(begin + (2 * s + 1) * kMaskTile / (2 * samples), rows - 1));
    }
  }
  return sampled;
}

/// Unnormalised attention of the sampled queries to tiles of keys: sums of 2^(logit - top), with
/// logits in units of log2 and one top per sum.
struct TileWeights {
  Heads<float> tops, sums;  // [query_heads, sampled rows, tiles]
};

/// Working memory of one thread.
template <class Operands>
struct SampleScratch {
  Operands keys;
  AlignedVector<float> logits = AlignedVector<float>(kTileRows * kTilePositions);
};

/// Attention of the packed sampled queries of one KV head to one tile of its keys.
template <class Operands>
void SampleTile(const Operands& queries, const std::vector<size_t>& sampled,
                const Heads<const float>& keys, size_t kv_head, size_t group, size_t tile,
                size_t first, size_t seen, float softcap, SampleScratch<Operands>& scratch,
                const TileWeights& weights) {
  const size_t begin = tile * kTilePositions;
  const size_t rows = group * sampled.size();
  scratch.keys.ResizeKeys(keys.dim);
  scratch.keys.SetKeys(keys.row(kv_head, begin), std::min(kTilePositions, seen - begin),
                       keys.row_stride);
  float* HWY_RESTRICT logits = scratch.logits.data();
  for (size_t r = 0; r < rows; r += kTileRows) {
    scratch.keys.template Logits<false>(queries, r, logits);
    if (softcap > 0) SoftCap(softcap, logits, kTileRows * kTilePositions);
    for (size_t i = r; i < std::min(r + kTileRows, rows); ++i) {
      const size_t head = kv_head * group + i / sampled.size();
      const size_t sample = i % sampled.size();
      const size_t position = first + sampled[sample];
      if (position < begin) continue;
      TopAndSum<Operands::kExpDegree>(
          logits + (i - r) * kTilePositions, std::min(position - begin + 1, kTilePositions),
          weights.tops.row(head, sample)[tile], weights.sums.row(head, sample)[tile]);
    }
  }
}

/// out [tiles] += the shares of one query, whose first `tiles` tiles have these tops and sums.
void AddShares(const float* HWY_RESTRICT tops, const float* HWY_RESTRICT sums, size_t tiles,
               float* HWY_RESTRICT shares, float* HWY_RESTRICT out) {
  const hn::CappedTag<float, 16> d;
  const size_t lanes = hn::Lanes(d);
  const float top = *std::max_element(tops, tops + tiles);
  float total = 0;
  const auto share_of = [&](auto tag, size_t at) HWY_ATTR {
    const auto factor = Exp2(tag, hn::Sub(hn::LoadU(tag, tops + at), hn::Set(tag, top)));
    const auto share = hn::Mul(hn::LoadU(tag, sums + at), factor);
    hn::StoreU(share, tag, shares + at);
    return hn::GetLane(hn::SumOfLanes(tag, share));
  };
  size_t t = 0;
  for (; t + lanes <= tiles; t += lanes) total += share_of(d, t);
  for (; t < tiles; ++t) total += share_of(hn::CappedTag<float, 1>(), t);
  const float inverse = 1.0F / total;
  for (t = 0; t < tiles; ++t) out[t] += shares[t] * inverse;
}

template <class Operands>
void SampledTiles(const Heads<const float>& queries, const Heads<const float>& keys, size_t first,
                  size_t samples, float scale, float softcap, const Heads<float>& out) {
  const size_t group = queries.heads / keys.heads;
  const size_t seen = first + queries.rows;
  const size_t tiles = hwy::DivCeil(seen, kTilePositions);
  const std::vector<size_t> sampled = SampledRows(queries.rows, samples);
  const size_t rows = group * sampled.size();
  const size_t padded_rows = hwy::RoundUpTo(rows, kTileRows);
  std::vector<Operands> packed(keys.heads);
  parallel_for(keys.heads, [&](size_t kv_head, size_t) {
    packed[kv_head].ResizeQueries(padded_rows, queries.dim);
    for (size_t i = 0; i < rows; ++i) {
      packed[kv_head].SetQuery(
          i, queries.row(kv_head * group + i / sampled.size(), sampled[i % sampled.size()]),
          // Soft-capping needs logits in natural units.
          softcap > 0 ? scale : scale * kLog2E);
    }
    packed[kv_head].ClearQueries(rows, padded_rows);
  });
  const size_t count = queries.heads * sampled.size() * tiles;
  AlignedVector<float> tops(count);
  AlignedVector<float> sums(count);
  const TileWeights weights{{tops.data(), queries.heads, sampled.size(), tiles},
                            {sums.data(), queries.heads, sampled.size(), tiles}};
  std::vector<SampleScratch<Operands>> scratch(static_cast<size_t>(num_threads()));
  parallel_for(keys.heads * tiles, [&](size_t task, size_t thread) {
    const size_t kv_head = task / tiles;
    SampleTile(packed[kv_head], sampled, keys, kv_head, group, task % tiles, first, seen, softcap,
               scratch[thread], weights);
  });
  parallel_for(queries.heads * out.rows, [&](size_t task, size_t) {
    const size_t head = task / out.rows;
    const size_t block = task % out.rows;
    float* to = out.row(head, block);
    std::fill_n(to, out.dim, 0.0F);
    std::vector<float> shares(tiles);
    for (size_t s = block * samples; s < (block + 1) * samples; ++s) {
      AddShares(weights.tops.row(head, s), weights.sums.row(head, s),
                (first + sampled[s]) / kTilePositions + 1, shares.data(), to);
    }
  });
}

void SampledAttention(const Heads<const float>& queries, const Heads<const float>& keys,
                      size_t first, size_t samples, const AttentionOptions& options, float scale,
                      const Heads<float>& out) {
  WithOperands(options.precision, [&](auto* operands) HWY_ATTR {
    SampledTiles<std::remove_pointer_t<decltype(operands)>>(queries, keys, first, samples, scale,
                                                            options.softcap, out);
  });
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(SampledAttention);

void sampled_attention(Heads<const float> queries, Heads<const float> keys, size_t first,
                       size_t samples, const AttentionOptions& options, Heads<float> out) {
  require_support(options.precision);
  const float scale = softmax_scale(options.scale, keys.dim);
  HWY_DYNAMIC_DISPATCH(SampledAttention)(queries, keys, first, samples, options, scale, out);
}

}  // namespace restkv
#endif  // HWY_ONCE
