#include "compress/peak_attention.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <type_traits>
#include <vector>

#include "attention/attention_precision.h"
#include "attention/softmax_scale.h"
#include "base/threads.h"
#include "compress/finite.h"
#include "restkv/aligned.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/peak_attention.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "attention/prefill_operands-inl.h"
#include "base/math-inl.h"
#include "compress/finite_logits-inl.h"
#include "hwy/highway.h"

#ifndef RESTKV_COMPRESS_PEAK_ATTENTION_TYPES_
#define RESTKV_COMPRESS_PEAK_ATTENTION_TYPES_
namespace restkv {

/// Keys that take part in the softmax.
struct KeyColumns {
  Heads<const float> keys;
  Matrix<const float> bias = {};  ///< [kv_heads, rows] or empty.
  bool causal = false;            ///< Query r sees all but the last `queries.rows` - 1 - r.
  bool peaks = false;             ///< Whether their largest weights are wanted.
};

struct PeakTask {
  Heads<const float> queries;
  std::array<KeyColumns, 3> columns;  ///< Sinks, range, own keys.
  float scale, softcap;
  std::span<const float> sink_logits;  ///< [query_heads] or empty.
  AttentionPrecision precision;
  std::span<const float> factors;  ///< [m], or empty.
  Matrix<const float> lse;         ///< [query_heads, m] of all columns, or empty.
  Matrix<float> peaks;             ///< [query_heads, rows of the range]
};

}  // namespace restkv
#endif

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

using PeakTag = hn::CappedTag<float, 16>;
constexpr size_t kPeakLanes = hn::MaxLanes(PeakTag());

/// Up to kTilePositions keys of one head.
struct ColumnTile {
  const KeyColumns* columns;
  size_t begin, count;

  /// Number of keys that query r of `queries` sees.
  [[nodiscard]] HWY_INLINE size_t Visible(size_t r, size_t queries) const {
    if (!columns->causal) return count;
    const size_t end = columns->keys.rows - (queries - 1 - r);
    return end <= begin ? 0 : HWY_MIN(end - begin, count);
  }
};

std::vector<ColumnTile> ColumnTiles(const PeakTask& t) {
  std::vector<ColumnTile> tiles;
  for (const KeyColumns& columns : t.columns) {
    for (size_t begin = 0; begin < columns.keys.rows; begin += kTilePositions) {
      tiles.push_back({&columns, begin, HWY_MIN(kTilePositions, columns.keys.rows - begin)});
    }
  }
  return tiles;
}

template <class Operands>
bool PeakAttentionIn(const PeakTask& t) {
  const size_t kv_heads = t.columns[0].keys.heads;
  const size_t dim = t.queries.dim;
  const size_t queries = t.queries.rows;
  const size_t group = t.queries.heads / kv_heads;
  const size_t padded = hwy::RoundUpTo(queries, kTileRows);  // rows of a query head
  const size_t rows = group * padded;
  // Soft-capping needs logits in natural units.
  const float scale = t.softcap > 0 ? t.scale : t.scale * kLog2E;
  std::vector<Operands> packed(kv_heads);
  parallel_for(kv_heads, [&](size_t kv_head, size_t) HWY_ATTR {
    packed[kv_head].ResizeQueries(rows, dim);
    for (size_t g = 0; g < group; ++g) {
      for (size_t r = 0; r < queries; ++r) {
        packed[kv_head].SetQuery(g * padded + r, t.queries.row(kv_head * group + g, r), scale);
      }
      packed[kv_head].ClearQueries(g * padded + queries, (g + 1) * padded);
    }
  });

  // Calls body(operands, biases, kv_head, tile number) for every tile of every head.
  const std::vector<ColumnTile> tiles = ColumnTiles(t);
  std::vector<Operands> operands(static_cast<size_t>(num_threads()));
  const auto for_each_tile = [&](const auto& body) {
    parallel_for(kv_heads * tiles.size(), [&](size_t task, size_t thread) HWY_ATTR {
      const ColumnTile& tile = tiles[task % tiles.size()];
      const size_t kv_head = task / tiles.size();
      const Heads<const float>& keys = tile.columns->keys;
      operands[thread].ResizeKeys(dim);
      operands[thread].SetKeys(keys.row(kv_head, tile.begin), tile.count, keys.row_stride);
      HWY_ALIGN float biases[kTilePositions];
      const bool biased = TileBias(tile.columns->bias, kv_head, tile.begin, tile.count, biases);
      body(operands[thread], biased ? biases : nullptr, kv_head, task % tiles.size());
    });
  };

  std::atomic<bool> finite = true;
  // What is subtracted from a logit for the logarithm of its weight, times the query's factor. The
  // rows between heads belong to no query and never have the largest weight.
  AlignedVector<float> offsets(kv_heads * rows);
  std::fill(offsets.begin(), offsets.end(), -kHiddenLogit);
  const auto set_offset = [&](size_t head, size_t r, double log_sum) {
    if (!t.factors.empty()) log_sum -= std::log2(double{t.factors[r]});
    offsets[head / group * rows + head % group * padded + r] = static_cast<float>(log_sum);
  };
  if (t.lse.data != nullptr) {
    for (size_t head = 0; head < kv_heads * group; ++head) {
      for (size_t r = 0; r < queries; ++r) set_offset(head, r, double{t.lse.row(head)[r]} * kLog2E);
    }
  } else {
    // The largest logit of every query in every tile, and the sum of weights relative to it.
    std::vector<float> tops(kv_heads * tiles.size() * rows, kHiddenLogit);
    std::vector<float> sums(kv_heads * tiles.size() * rows);
    for_each_tile([&](const Operands& keys, const float* bias, size_t kv_head,
                      size_t number) HWY_ATTR {
      HWY_ALIGN float logits[kTileRows * kTilePositions];
      const ColumnTile& tile = tiles[number];
      const size_t at = (kv_head * tiles.size() + number) * rows;
      for (size_t row = 0; row < rows; row += kTileRows) {
        const size_t first = row % padded;
        const size_t end = HWY_MIN(first + kTileRows, queries);
        if (tile.Visible(end - 1, queries) == 0) continue;
        if (!FiniteLogits(keys, packed[kv_head], row, t.softcap, bias, logits)) finite = false;
        for (size_t r = first; r < end; ++r) {
          const size_t visible = tile.Visible(r, queries);
          if (visible == 0) continue;
          TopAndSum<Operands::kExpDegree>(logits + (r - first) * kTilePositions, visible,
                                          tops[at + row + r - first], sums[at + row + r - first]);
        }
      }
    });
    if (!finite) return false;
    parallel_for(kv_heads * group, [&](size_t head, size_t) {
      for (size_t r = 0; r < queries; ++r) {
        const auto at = [&](size_t number) {
          return (head / group * tiles.size() + number) * rows + head % group * padded + r;
        };
        float top = tops[at(0)];
        for (size_t number = 1; number < tiles.size(); ++number) {
          top = HWY_MAX(top, tops[at(number)]);
        }
        double total = 0;
        if (!t.sink_logits.empty()) {
          const float sink = t.sink_logits[head] * kLog2E;
          top = HWY_MAX(top, sink);
          total = std::exp2(double{sink} - double{top});
        }
        for (size_t number = 0; number < tiles.size(); ++number) {
          if (sums[at(number)] > 0) {
            total += double{sums[at(number)]} * std::exp2(double{tops[at(number)]} - double{top});
          }
        }
        set_offset(head, r, double{top} + std::log2(total));
      }
    });
  }

  for_each_tile([&](const Operands& keys, const float* bias, size_t kv_head, size_t number)
                    HWY_ATTR {
                      const PeakTag d;
                      const ColumnTile& tile = tiles[number];
                      if (!tile.columns->peaks) return;
                      HWY_ALIGN float logits[kTileRows * kTilePositions];
                      HWY_ALIGN float peaks[kTilePositions];
                      for (size_t g = 0; g < group; ++g) {
                        std::fill(peaks, peaks + kTilePositions, kHiddenLogit);
                        for (size_t row = g * padded; row < (g + 1) * padded; row += kTileRows) {
                          if (!FiniteLogits(keys, packed[kv_head], row, t.softcap, bias, logits))
                            finite = false;
                          const float* offset = &offsets[kv_head * rows + row];
                          for (size_t j = 0; j < kTilePositions; j += kPeakLanes) {
                            auto peak = hn::Load(d, peaks + j);
                            for (size_t i = 0; i < kTileRows; ++i) {
                              const auto logit = hn::Load(d, logits + i * kTilePositions + j);
                              peak = hn::Max(peak, hn::Sub(logit, hn::Set(d, offset[i])));
                            }
                            hn::Store(peak, d, peaks + j);
                          }
                        }
                        float* to = t.peaks.row(kv_head * group + g) + tile.begin;
                        for (size_t j = 0; j < tile.count; ++j) {
                          const float weight = std::exp2(peaks[j]);
                          to[j] = to[j] >= weight ? to[j] : weight;  // also if to[j] is NaN
                        }
                      }
                    });
  return finite;
}

bool PeakAttention(const PeakTask& task) {
  bool finite = false;
  WithOperands(task.precision, [&](auto* operands) HWY_ATTR {
    finite = PeakAttentionIn<std::remove_pointer_t<decltype(operands)>>(task);
  });
  return finite;
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(PeakAttention);

void add_peak_attention(const BlockObservation& block, size_t sinks, std::span<const float> factors,
                        Matrix<float> peaks) {
  require_support(block.precision);
  const size_t range = block.end - block.begin;
  const auto bias_from = [&](size_t row) {
    Matrix<const float> bias = block.bias;
    if (bias.data != nullptr) bias.data += row;
    return bias;
  };
  const PeakTask task{
      .queries = block.queries,
      .columns = {{{.keys = block.keys.slice_rows(0, std::min(sinks, block.begin)),
                    .bias = bias_from(0)},
                   {.keys = block.keys.slice_rows(block.begin, range),
                    .bias = bias_from(block.begin),
                    .peaks = true},
                   {.keys = block.own_keys, .causal = true}}},
      .scale = softmax_scale(block.scale, block.keys.dim),
      .softcap = block.softcap,
      .sink_logits = block.sink_logits,
      .precision = block.precision,
      .factors = factors,
      .lse = block.lse,
      .peaks = {peaks.data + block.begin, peaks.rows, range, peaks.stride},
  };
  if (HWY_DYNAMIC_DISPATCH(PeakAttention)(task)) return;
  throw_not_finite(block);
}

}  // namespace restkv
#endif
