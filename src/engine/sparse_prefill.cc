#include "engine/sparse_prefill.h"

#include <algorithm>
#include <cmath>

#include "base/threads.h"

namespace restkv {
namespace {

/// Key row, among those of a part, of a new token.
size_t row_of(const LayerKv::Part& part, size_t prefix, size_t token) {
  return prefix - part.padding + token;
}

}  // namespace

void SparsePrefill::set(const SparseOptions& options) {
  validate(options);
  options_ = options;
  pattern_ = options.pattern == "dense" ? nullptr : &find_sparse_pattern(options.pattern);
  report_ = {};
  report_.layers = config_.layers;
  report_.query_heads = config_.query_heads;
  report_.heads.resize(config_.layers * config_.query_heads);
}

bool SparsePrefill::begin_layer(size_t layer, const AttentionOptions& attention, size_t n,
                                size_t dense_rows, LayerKv& kv) {
  // Methods that observe every query have no window to keep dense.
  const size_t window = std::max(kMaskTile, dense_rows < n ? dense_rows : 0);
  if (pattern_ == nullptr || n <= window + kMaskTile || kv.bias().data != nullptr) return false;
  search_ = Stopwatch();
  layer_ = layer;
  attention_ = attention;
  dense_from_ = (n - window) / kMaskTile * kMaskTile;
  parts_.resize(kv.parts().size());
  for (Part& part : parts_) {
    part.pattern =
        pattern_->looks_ahead
            ? nullptr
            : pattern_->make(options_, {.attention = attention, .keys = {}, .last_queries = {}});
  }
  return true;
}

void SparsePrefill::look_ahead(Heads<const float> last_queries, LayerKv& kv) {
  const size_t group = last_queries.heads / kv.heads();
  for (size_t i = 0; i < parts_.size(); ++i) {
    const LayerKv::Part& part = kv.parts()[i];
    parts_[i].pattern = pattern_->make(options_, {.attention = attention_,
                                                  .keys = kv.visible(part, kv.keys()),
                                                  .last_queries = last_queries.slice_heads(
                                                      part.head * group, part.heads * group)});
  }
  report_.search_seconds += search_.seconds();
}

Matrix<float> SparsePrefill::begin_block(Heads<const float> queries, LayerKv& kv, size_t first,
                                         Matrix<float> lse) {
  search_ = Stopwatch();
  const size_t group = queries.heads / kv.heads();
  const size_t sparse_rows = first < dense_from_ ? std::min(queries.rows, dense_from_ - first) : 0;
  for (size_t i = 0; i < parts_.size(); ++i) {
    LayerKv::Part& part = kv.parts()[i];
    part.mask = {};
    if (sparse_rows > 0) {
      const size_t heads = part.heads * group;
      const size_t row = row_of(part, kv.prefix(), first);
      const size_t blocks = tiles_of(queries.rows);
      const size_t tiles = tiles_of(row + queries.rows);
      std::vector<uint8_t>& storage = parts_[i].marks;
      storage.assign(heads * blocks * tiles, 0);
      const TileMarks marks(storage.data(), heads, blocks, tiles);
      parts_[i].pattern->mark(
          queries.slice_heads(part.head * group, heads).slice_rows(0, sparse_rows),
          kv.visible(part, kv.keys()), row, marks.slice_rows(0, tiles_of(sparse_rows)));
      mark_always(part, kv.prefix(), first, queries.rows, marks);
      part.mask = marks;
    }
    count(part.head * group, part.heads * group, row_of(part, kv.prefix(), first), queries.rows,
          part.mask);
  }
  if (options_.measure_recall && lse.data == nullptr) {
    lse_.resize(queries.heads * queries.rows);
    lse = {lse_.data(), queries.heads, queries.rows};
  }
  report_.search_seconds += search_.seconds();
  attending_ = Stopwatch();
  return lse;
}

void SparsePrefill::end_block(Heads<const float> queries, LayerKv& kv, size_t first,
                              Matrix<const float> lse) {
  report_.attention_seconds += attending_.seconds();
  const Stopwatch measuring;
  if (!options_.measure_recall) return;
  measure(queries, kv, first, lse);
  report_.recall_seconds += measuring.seconds();
}

void SparsePrefill::mark_always(const LayerKv::Part& part, size_t prefix, size_t first, size_t rows,
                                TileMarks marks) const {
  const size_t first_tiles = std::max<size_t>(1, tiles_of(prefix - part.padding));
  for (size_t h = 0; h < marks.heads; ++h) {
    for (size_t b = 0; b < tiles_of(rows); ++b) {
      const size_t token = first + b * kMaskTile;
      uint8_t* row = marks.row(h, b);
      if (token >= dense_from_) {
        std::fill_n(row, marks.dim, uint8_t{1});
        continue;
      }
      std::fill_n(row, std::min(first_tiles, marks.dim), uint8_t{1});
      const size_t own = row_of(part, prefix, token) / kMaskTile;
      if (own > 0) row[own - 1] = 1;
    }
  }
}

void SparsePrefill::count(size_t head, size_t heads, size_t row, size_t rows,
                          const TileMask& mask) {
  for (size_t h = 0; h < heads; ++h) {
    SparseReport::Head& counts = entry(head + h);
    for (size_t b = 0; b < tiles_of(rows); ++b) {
      const size_t begin = b * kMaskTile;
      const size_t visible = tiles_of(row + std::min(begin + kMaskTile, rows));
      const size_t own = (row + begin) / kMaskTile;  // all tiles from here on are computed
      counts.visible_tiles += visible;
      counts.kept_tiles +=
          mask.data == nullptr
              ? visible
              : visible - own +
                    static_cast<size_t>(std::count(mask.row(h, b), mask.row(h, b) + own, 1));
    }
  }
}

void SparsePrefill::measure(Heads<const float> queries, LayerKv& kv, size_t first,
                            Matrix<const float> lse) {
  const size_t end = std::min(first + queries.rows, dense_from_);
  std::vector<size_t> rows;  // one query per block, at varying rows: 29 is coprime to 64
  for (size_t block = first / kMaskTile; block * kMaskTile < end; ++block) {
    rows.push_back(block * kMaskTile + block * 29 % kMaskTile - first);
  }
  const size_t group = queries.heads / kv.heads();
  for (const LayerKv::Part& part : kv.parts()) {
    const size_t begin = part.head * group;
    const size_t heads = part.heads * group;
    const AlignedVector<float> exact =
        exact_lse(queries.slice_heads(begin, heads), rows, kv.visible(part, kv.keys()),
                  kv.visible(part, kv.values()), row_of(part, kv.prefix(), first));
    for (size_t h = 0; h < heads; ++h) {
      SparseReport::Head& head = entry(begin + h);
      for (size_t i = 0; i < rows.size(); ++i) {
        const double all = exact[h * rows.size() + i];
        double share = std::exp(double{lse.row(begin + h)[rows[i]]} - all);
        // Recall is about keys, and the sink is not one of them.
        if (!attention_.sink_logits.empty()) {
          share -= std::exp(double{attention_.sink_logits[begin + h]} - all);
        }
        share = std::clamp(share, 0.0, 1.0);
        ++head.sampled;
        head.recall_sum += share;
        head.lowest_recall = std::min(head.lowest_recall, share);
      }
    }
  }
}

AlignedVector<float> SparsePrefill::exact_lse(Heads<const float> queries,
                                              std::span<const size_t> rows, Heads<const float> keys,
                                              Heads<const float> values, size_t first) const {
  const size_t heads = queries.heads;
  AlignedVector<float> lse(heads * rows.size());
  AlignedVector<float> out(heads * rows.size() * values.dim);  // unused
  AttentionOptions options = attention_;
  options.sink_logits = {};
  // All queries see the keys before the block, so one call covers them.
  if (first > 0) {
    AlignedVector<float> sampled(heads * rows.size() * queries.dim);
    for (size_t h = 0; h < heads; ++h) {
      for (size_t i = 0; i < rows.size(); ++i) {
        std::copy_n(queries.row(h, rows[i]), queries.dim,
                    sampled.data() + (h * rows.size() + i) * queries.dim);
      }
    }
    AttentionOptions all = options;
    all.causal = false;
    prefill_attention({sampled.data(), heads, rows.size(), queries.dim}, keys.slice_rows(0, first),
                      values.slice_rows(0, first), 0, all,
                      {out.data(), heads, rows.size(), values.dim},
                      {lse.data(), heads, rows.size()});
  }
  AlignedVector<float> within(heads);  // the block
  const size_t block = keys.rows - first;
  for (size_t i = 0; i < rows.size(); ++i) {
    prefill_attention(queries.slice_rows(rows[i], 1), keys.slice_rows(first, block),
                      values.slice_rows(first, block), rows[i], options,
                      {out.data(), heads, 1, values.dim}, {within.data(), heads, 1});
    for (size_t h = 0; h < heads; ++h) {
      float& sum = lse[h * rows.size() + i];
      if (first == 0) {
        sum = within[h];
      } else {
        const float larger = std::max(sum, within[h]);
        sum = larger + std::log1p(std::exp(std::min(sum, within[h]) - larger));
      }
    }
  }
  return lse;
}

}  // namespace restkv
