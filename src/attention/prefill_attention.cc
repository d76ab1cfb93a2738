#include <algorithm>
#include <bit>
#include <cmath>
#include <functional>
#include <type_traits>
#include <vector>

#include "attention/attention_precision.h"
#include "attention/mask.h"
#include "attention/softmax_scale.h"
#include "base/threads.h"
#include "fmt/format.h"
#include "restkv/aligned.h"
#include "restkv/attention.h"
#include "restkv/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "attention/prefill_attention.cc"
#include "hwy/foreach_target.h"  // IWYU pragma: keep
#include "attention/bias-inl.h"
#include "attention/prefill_operands-inl.h"
#include "base/gemm-inl.h"
#include "base/math-inl.h"
#include "hwy/cache_control.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Memory of the queries and outputs that share a key tile: large enough to hide the cost of
/// packing the tile (with a mask, only some of them use it), small enough to stay in L2.
constexpr size_t kTileBytes = 512UL << 10U;
/// The running maximum of a row is raised only when a logit exceeds it by this much, in powers of
/// two. Weights stay below 2^8, far from overflow, and outputs are rarely rescaled.
constexpr float kMaxSlack = 8.0F;
/// Initial running maximum: finite, so that differences never become NaN.
constexpr float kNoMaximum = -1.0e30F;

/// Rows of a tile of queries with the same keys. Row i is position begin + i / share of the block
/// and head `head` + i % share, where share = rows / positions.
struct Span {
  size_t head, begin, rows;
};

/// Working memory of one thread.
template <class Operands>
struct PrefillScratch {
  Operands operands;
  AlignedVector<float> out, logits, maximum, sum;
  AlignedVector<float> bias;  // of a tile of keys
  std::vector<size_t> positions;
  std::vector<Span> spans;

  void Resize(size_t rows, size_t padded_value_dim, size_t lanes) {
    positions.resize(rows);
    out.resize(rows * padded_value_dim);
    logits.resize(kTileRows * kTilePositions);
    bias.resize(kTilePositions);
    maximum.resize(rows);
    sum.resize(rows * lanes);
  }
};

/// Turns one row of logits (in units of log2) into weights. Updates the row's maximum and its
/// partial sums per lane; earlier sums are rescaled when the maximum rises. Keys outside
/// [visible_begin, visible_end) of the tile get weight 0.
template <int kExpDegree, class D>
HWY_INLINE void SoftmaxRow(D d, float* HWY_RESTRICT logits, bool masked, size_t visible_begin,
                           size_t visible_end, float& maximum, float* HWY_RESTRICT sum,
                           float* HWY_RESTRICT out, size_t out_cols) {
  constexpr size_t kLanes = hn::MaxLanes(D());
  constexpr size_t kVectors = kTilePositions / kLanes;
  hn::Vec<D> s[kVectors];
  for (size_t j = 0; j < kVectors; ++j) s[j] = hn::Load(d, logits + j * kLanes);
  if (HWY_UNLIKELY(masked)) {
    for (size_t j = 0; j < kVectors; ++j) {
      const auto index = hn::Iota(d, static_cast<float>(j * kLanes));
      const auto visible = hn::And(hn::Ge(index, hn::Set(d, static_cast<float>(visible_begin))),
                                   hn::Lt(index, hn::Set(d, static_cast<float>(visible_end))));
      s[j] = hn::IfThenElse(visible, s[j], hn::Set(d, 2 * kNoMaximum));
    }
  }
  auto top = s[0];
  for (size_t j = 1; j < kVectors; ++j) top = hn::Max(top, s[j]);
  auto total = hn::Load(d, sum);
  if (!hn::AllFalse(d, hn::Gt(top, hn::Set(d, maximum + kMaxSlack)))) {
    const float raised = hn::GetLane(hn::MaxOfLanes(d, top));
    const auto factor = Exp2(d, hn::Set(d, maximum - raised));
    maximum = raised;
    total = hn::Mul(total, factor);
    for (size_t c = 0; c < out_cols; c += kLanes) {
      hn::Store(hn::Mul(hn::Load(d, out + c), factor), d, out + c);
    }
  }
  const auto offset = hn::Set(d, maximum);
  const auto lowest = hn::Set(d, -126.0F);
  for (size_t j = 0; j < kVectors; ++j) {
    const auto x = hn::Sub(s[j], offset);
    auto weight = Exp2<kExpDegree>(d, x);
    if (HWY_UNLIKELY(masked)) weight = hn::IfThenElseZero(hn::Gt(x, lowest), weight);
    total = hn::Add(total, weight);
    hn::Store(weight, d, logits + j * kLanes);
  }
  hn::Store(total, d, sum);
}

/// Makes the spans of a tile of queries: positions [begin, end) of the block and all query heads of
/// KV head `kv_head`. There is one span or, with a mask, one for each head and block of the mask.
void MakeSpans(size_t group, size_t kv_head, size_t begin, size_t end, bool masked,
               std::vector<Span>& spans) {
  spans.clear();
  if (!masked) {
    spans.push_back({kv_head * group, begin, (end - begin) * group});
    return;
  }
  for (size_t head = kv_head * group; head < (kv_head + 1) * group; ++head) {
    for (size_t i = begin; i < end; i += kMaskTile) {
      spans.push_back({head, i, std::min(kMaskTile, end - i)});
    }
  }
}

/// End of the keys that are there, for queries that see those up to `seen`.
size_t KeysEnd(const AttentionOptions& options, const Heads<const float>& keys, size_t seen) {
  if (!options.causal) return keys.rows;
  return options.keys_end > 0 ? options.keys_end : seen;
}

HWY_INLINE void FetchRow(const float* row, size_t n) {
  for (size_t c = 0; c < n; c += 16) hwy::Prefetch(row + c);
}

/// Computes one tile of queries: positions [begin, end) of the block, all query heads of KV head
/// `kv_head`.
template <class Operands>
void PrefillTile(const Heads<const float>& queries, const Heads<const float>& keys,
                 const Heads<const float>& values, size_t first, const AttentionOptions& options,
                 float scale, size_t kv_head, size_t begin, size_t end, const Heads<float>& out,
                 const Matrix<float>& lse, const TileMask& mask,
                 PrefillScratch<Operands>& scratch) {
  const hn::CappedTag<float, 16> d;
  constexpr size_t kLanes = hn::MaxLanes(hn::CappedTag<float, 16>());
  const size_t group = queries.heads / keys.heads;
  const size_t dim = keys.dim;
  const size_t value_dim = values.dim;
  const size_t padded_dim = hwy::RoundUpTo(value_dim, kLanes);
  const size_t share = mask.data != nullptr ? 1 : group;
  std::vector<Span>& spans = scratch.spans;
  MakeSpans(group, kv_head, begin, end, mask.data != nullptr, spans);
  const size_t padded_rows = hwy::RoundUpTo(spans.front().rows, kTileRows);  // of a span
  Operands& operands = scratch.operands;
  operands.Resize(spans.size() * padded_rows, dim, value_dim, padded_dim);
  scratch.Resize(spans.size() * padded_rows, padded_dim, kLanes);

  // Soft-capping needs logits in natural units.
  const float query_scale = options.softcap > 0 ? scale : scale * kLog2E;
  for (size_t s = 0; s < spans.size(); ++s) {
    const Span& span = spans[s];
    const size_t base = s * padded_rows;
    for (size_t i = 0; i < span.rows; ++i) {
      operands.SetQuery(base + i, queries.row(span.head + i % share, span.begin + i / share),
                        query_scale);
      // The last position that the row sees. Precomputed, because a division per use is measurable.
      scratch.positions[base + i] = options.causal ? first + span.begin + i / share : keys.rows - 1;
    }
    operands.ClearQueries(base + span.rows, base + padded_rows);
  }
  std::fill(scratch.out.begin(), scratch.out.end(), 0.0F);
  std::fill(scratch.sum.begin(), scratch.sum.end(), 0.0F);
  std::fill(scratch.maximum.begin(), scratch.maximum.end(), kNoMaximum);
  if (!options.sink_logits.empty()) {
    // A sink is what the row has met before its first key.
    for (size_t s = 0; s < spans.size(); ++s) {
      for (size_t i = 0; i < spans[s].rows; ++i) {
        const size_t row = s * padded_rows + i;
        scratch.maximum[row] = options.sink_logits[spans[s].head + i % share] * kLog2E;
        scratch.sum[row * kLanes] = 1.0F;
      }
    }
  }

  const size_t window = options.causal ? options.sliding_window : 0;
  const size_t first_position = options.causal ? first + begin : keys.rows - 1;
  const size_t first_key =
      window > 0 && first_position + 1 > window ? first_position + 1 - window : 0;
  const size_t key_end = options.causal ? first + end : keys.rows;
  // Tiles of keys are packed up to the end of the block of queries, not of this tile: in 8 bits the
  // result depends on all keys packed together, and it must not depend on the split of queries.
  const size_t packed_end = KeysEnd(options, keys, first + queries.rows);
  const auto kept = [&](const Span& span, size_t k0) {
    if (mask.data == nullptr) return true;
    if (k0 + kTilePositions > first + span.begin) return k0 < first + span.begin + span.rows;
    return mask.row(span.head, span.begin / kMaskTile)[k0 / kTilePositions] != 0;
  };
  const auto next_tile = [&](size_t k0) {  // the next one that a span keeps
    const auto meets = [&](const Span& span) { return kept(span, k0); };
    while (k0 < key_end && std::ranges::none_of(spans, meets)) k0 += kTilePositions;
    return k0;
  };
  size_t next = 0;
  for (size_t k0 = next_tile(first_key / kTilePositions * kTilePositions); k0 < key_end;
       k0 = next) {
    next = next_tile(k0 + kTilePositions);
    const size_t tile_keys = std::min(kTilePositions, packed_end - k0);
    operands.SetKeys(keys.row(kv_head, k0), tile_keys, keys.row_stride);
    operands.SetValues(values.row(kv_head, k0), tile_keys, values.row_stride);
    const bool biased = TileBias(options.bias, kv_head, k0, tile_keys, scratch.bias.data());
    size_t fetched = next;
    for (size_t s = 0; s < spans.size(); ++s) {
      if (!kept(spans[s], k0)) continue;
      // The hardware prefetcher cannot predict the next tile.
      if (mask.data != nullptr) {
        const size_t part = next + kTilePositions * (s + 1) / spans.size();
        for (; fetched < std::min(part, key_end); ++fetched) {
          FetchRow(keys.row(kv_head, fetched), dim);
          FetchRow(values.row(kv_head, fetched), value_dim);
        }
      }
      const size_t rows = spans[s].rows;
      const size_t base = s * padded_rows;
      const size_t* positions = scratch.positions.data() + base;
      for (size_t i = 0; i < rows; i += kTileRows) {
        const size_t last = std::min(i + kTileRows, rows) - 1;
        const size_t last_position = positions[last];
        if (last_position < k0) continue;  // the strip is before the tile
        const size_t strip_position = positions[i];
        if (window > 0 && strip_position >= k0 + tile_keys - 1 + window) continue;  // or beyond it
        float* logits = scratch.logits.data();
        operands.template Logits<false>(operands, base + i, logits);
        if (options.softcap > 0) SoftCap(options.softcap, logits, kTileRows * kTilePositions);
        if (biased) AddBias(scratch.bias.data(), logits, kTileRows);
        const bool masked = k0 + kTilePositions > strip_position + 1 ||
                            (window > 0 && last_position >= k0 + window);
        for (size_t r = 0; r < kTileRows; ++r) {
          size_t visible_begin = 0;
          size_t visible_end = kTilePositions;
          if (masked) {
            // Padding rows repeat the visibility of the last row; their results are unused.
            const size_t position = positions[std::min(i + r, last)];
            visible_end = position < k0 ? 0 : std::min(kTilePositions, position - k0 + 1);
            visible_begin =
                window > 0 && position + 1 > k0 + window ? position + 1 - window - k0 : 0;
          }
          const size_t row = base + i + r;
          SoftmaxRow<Operands::kExpDegree>(d, logits + r * kTilePositions, masked, visible_begin,
                                           visible_end, scratch.maximum[row],
                                           scratch.sum.data() + row * kLanes,
                                           scratch.out.data() + row * padded_dim, padded_dim);
        }
        const size_t depth = std::min(tile_keys, last_position - k0 + 1);
        operands.AddValues(logits, depth, scratch.out.data() + (base + i) * padded_dim);
      }
    }
  }
  for (size_t s = 0; s < spans.size(); ++s) {
    const Span& span = spans[s];
    for (size_t i = 0; i < span.rows; ++i) {
      const size_t row = s * padded_rows + i;
      const float total =
          hn::GetLane(hn::SumOfLanes(d, hn::Load(d, scratch.sum.data() + row * kLanes)));
      const float inverse = 1.0F / total;
      const float* weighted = scratch.out.data() + row * padded_dim;
      const size_t head = span.head + i % share;
      float* target = out.row(head, span.begin + i / share);
      for (size_t c = 0; c < value_dim; ++c) target[c] = weighted[c] * inverse;
      if (lse.data != nullptr) {
        lse.row(head)[span.begin + i / share] = scratch.maximum[row] / kLog2E + std::log(total);
      }
    }
  }
}

/// Sorts tiles by the number of keys they use, largest first, so that threads end together. Tile i
/// has the query heads of KV head i / tiles and the positions from i % tiles * positions on.
void SortByWork(const TileMask& mask, size_t group, size_t positions, size_t tiles,
                std::vector<size_t>& order) {
  std::vector<size_t> work(order.size(), 0);
  for (size_t head = 0; head < mask.heads; ++head) {
    // A mask may have more rows than the queries.
    for (size_t block = 0; block < mask.rows && block * kMaskTile / positions < tiles; ++block) {
      const uint8_t* row = mask.row(head, block);
      const auto kept = mask.dim - static_cast<size_t>(std::count(row, row + mask.dim, 0));
      work[head / group * tiles + block * kMaskTile / positions] += kept;
    }
  }
  std::ranges::stable_sort(order, std::greater(), [&](size_t i) { return work[i]; });
}

/// Number of positions of a tile of queries: as many as fit kTileBytes with several tiles per
/// thread. With a mask, whole blocks of it.
size_t TilePositions(const Heads<const float>& queries, const Heads<const float>& keys,
                     const Heads<const float>& values, bool masked) {
  const size_t group = queries.heads / keys.heads;
  const size_t bytes = group * (keys.dim + values.dim + 16) * sizeof(float);  // of a position
  const size_t share = queries.rows * keys.heads / (3 * static_cast<size_t>(num_threads()));
  const size_t positions = std::max<size_t>(1, std::min(kTileBytes / bytes, share));
  if (masked) return std::max<size_t>(1, std::bit_floor(positions / kMaskTile)) * kMaskTile;
  return hwy::DivCeil(queries.rows, hwy::DivCeil(queries.rows, positions));  // equal tiles
}

template <class Operands>
void PrefillTiles(const Heads<const float>& queries, const Heads<const float>& keys,
                  const Heads<const float>& values, size_t first, const AttentionOptions& options,
                  float scale, const Heads<float>& out, const Matrix<float>& lse,
                  const TileMask& mask) {
  static_assert(kTilePositions == kMaskTile);
  const size_t positions = TilePositions(queries, keys, values, mask.data != nullptr);
  const size_t tiles = hwy::DivCeil(queries.rows, positions);
  // Tiles of one KV head are consecutive, so that its keys and values stay in the cache. Later
  // tiles see more keys and come first, which balances the threads.
  std::vector<size_t> order(tiles * keys.heads);
  for (size_t i = 0; i < order.size(); ++i) order[i] = i / tiles * tiles + tiles - 1 - i % tiles;
  if (mask.data != nullptr) SortByWork(mask, queries.heads / keys.heads, positions, tiles, order);
  parallel_for(order.size(), [&](size_t task, size_t) {
    thread_local PrefillScratch<Operands> scratch;  // reused between calls
    const size_t kv_head = order[task] / tiles;
    const size_t begin = order[task] % tiles * positions;
    PrefillTile(queries, keys, values, first, options, scale, kv_head, begin,
                std::min(begin + positions, queries.rows), out, lse, mask, scratch);
  });
}

void PrefillAttention(const Heads<const float>& queries, const Heads<const float>& keys,
                      const Heads<const float>& values, size_t first,
                      const AttentionOptions& options, float scale, const Heads<float>& out,
                      const Matrix<float>& lse, const TileMask& mask) {
  WithOperands(options.precision, [&](auto* operands) HWY_ATTR {
    PrefillTiles<std::remove_pointer_t<decltype(operands)>>(queries, keys, values, first, options,
                                                            scale, out, lse, mask);
  });
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(PrefillAttention);

void prefill_attention(Heads<const float> queries, Heads<const float> keys,
                       Heads<const float> values, size_t first, const AttentionOptions& options,
                       Heads<float> out, Matrix<float> lse, const TileMask& mask) {
  if (queries.rows == 0) return;
  const size_t keys_seen = options.causal ? std::max(first + queries.rows, options.keys_end)
                                          : std::max<size_t>(1, keys.rows);
  if ((options.keys_end > 0 && options.keys_end < first + queries.rows) || keys.heads == 0 ||
      queries.heads % keys.heads != 0 || values.heads != keys.heads || queries.dim != keys.dim ||
      out.heads != queries.heads || out.rows != queries.rows || out.dim != values.dim ||
      values.rows < keys_seen || keys.rows < keys_seen ||
      (lse.data != nullptr && (lse.rows != queries.heads || lse.cols != queries.rows))) {
    throw Error(
        ErrorCode::kInvalidArgument,
        fmt::format(
            "prefill_attention: shapes do not fit: queries [{}, {}, {}] at position {}, "
            "keys [{}, {}, {}] up to {}, values [{}, {}, {}], out [{}, {}, {}], lse [{}, {}]",
            queries.heads, queries.rows, queries.dim, first, keys.heads, keys.rows, keys.dim,
            options.keys_end, values.heads, values.rows, values.dim, out.heads, out.rows, out.dim,
            lse.rows, lse.cols));
  }
  check_bias("prefill_attention", options, keys.heads, keys_seen);
  check_sinks("prefill_attention", options, queries.heads);
  require_support(options.precision);
  check_mask("prefill_attention", mask, queries.heads, queries.rows, first, options);
  const float scale = softmax_scale(options.scale, keys.dim);
  HWY_DYNAMIC_DISPATCH(PrefillAttention)
  (queries, keys, values, first, options, scale, out, lse, mask);
}

}  // namespace restkv
#endif  // HWY_ONCE
