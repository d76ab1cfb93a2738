#include "compress/output_error.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "base/threads.h"
#include "restkv/attention.h"
#include "restkv/error.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/output_error.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "base/gemm-inl.h"
#include "hwy/highway.h"

#ifndef RESTKV_COMPRESS_OUTPUT_ERROR_TYPES_
#define RESTKV_COMPRESS_OUTPUT_ERROR_TYPES_
namespace restkv {

/// Columns of `ProjectedBlock` come in multiples of this.
constexpr size_t kErrorLanes = 16;

}  // namespace restkv
#endif

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// The sum of the squares of some output channels: y = sum over parts p of W_p x_p, where W_p are
/// the same rows of each weight, and x, of [all columns of the weights, columns], lies part after
/// part. y [rows, columns] is overwritten.
double ProjectedBlock(const std::vector<Matrix<const float>>& weights, const float* HWY_RESTRICT x,
                      size_t columns, float* HWY_RESTRICT y) {
  const hn::CappedTag<float, kErrorLanes> d;
  const size_t rows = weights.front().rows;
  std::fill_n(y, rows * columns, 0.0F);
  for (const Matrix<const float>& w : weights) {
    SmallProduct<true>(d, rows, columns, w.cols, w.data, w.stride, x, columns, y, columns);
    x += w.cols * columns;
  }
  double sum = 0.0;
  for (size_t i = 0; i < rows * columns; ++i) sum += double{y[i]} * y[i];
  return sum;
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(ProjectedBlock);

/// Output channels per product.
constexpr size_t kChannels = 48;

/// Attention of the last `queries.rows` positions of a part to all rows up to them.
/// `first` is the first of the part's query heads that attend.
void attend(const LayerObservation& layer, size_t first, Heads<const float> queries,
            Heads<const float> keys, Heads<const float> values, Heads<float> out) {
  AttentionOptions options{.scale = layer.scale, .softcap = layer.softcap};
  if (!layer.sink_logits.empty()) {
    options.sink_logits = layer.sink_logits.subspan(first, queries.heads);
  }
  prefill_attention(queries, keys, values, keys.rows - queries.rows, options, out);
}

Heads<const float> last_queries(const LayerObservation& layer, size_t rows) {
  return layer.queries.slice_rows(layer.queries.rows - rows, rows);
}

/// Some rows of one head, one behind the other.
Heads<const float> gathered(Matrix<const float> head, const std::vector<int32_t>& rows,
                            AlignedVector<float>& storage) {
  storage.resize(rows.size() * head.cols);
  for (size_t i = 0; i < rows.size(); ++i) {
    std::copy_n(head.row(static_cast<size_t>(rows[i])), head.cols, storage.data() + i * head.cols);
  }
  return {storage.data(), 1, rows.size(), head.cols};
}

}  // namespace

OutputError::OutputError(std::span<const LayerObservation> heads, size_t window)
    : heads_(heads), rows_(window) {
  size_t query_heads = 0;
  for (const LayerObservation& part : heads) {
    rows_ = std::min({rows_, part.queries.rows, part.keys.rows});
    query_heads += part.queries.heads;
  }
  const size_t dim = heads.front().values.dim;
  outputs_.resize(query_heads * rows_ * dim);
  if (rows_ == 0) return;
  float* out = outputs_.data();
  for (const LayerObservation& part : heads) {
    attend(part, 0, last_queries(part, rows_), part.keys, part.values,
           {out, part.queries.heads, rows_, dim});
    out += part.queries.heads * rows_ * dim;
  }
  norm_ = projected_norm(outputs_);
}

double OutputError::of(const Selection& kept) const {
  if (rows_ == 0) return 0.0;
  struct CacheHead {
    const LayerObservation* part;
    size_t kv_head, first_query, queries;  ///< Within the part.
    float* out;
  };
  const size_t dim = heads_.front().values.dim;
  AlignedVector<float> change(outputs_.size());
  size_t kv_heads = 0;
  for (const LayerObservation& part : heads_) kv_heads += part.keys.heads;
  const size_t repeat = kept.keep.size() / kv_heads;  // cache heads of a KV head
  std::vector<CacheHead> cache_heads;
  float* out = change.data();
  for (const LayerObservation& part : heads_) {
    const size_t queries = part.queries.heads / (part.keys.heads * repeat);
    for (size_t h = 0; h < part.keys.heads * repeat; ++h) {
      cache_heads.push_back({&part, h / repeat, h * queries, queries, out});
      out += queries * rows_ * dim;
    }
  }
  parallel_for(cache_heads.size(), [&](size_t h, size_t) {
    thread_local AlignedVector<float> keys, values;
    const CacheHead& head = cache_heads[h];
    const LayerObservation& part = *head.part;
    attend(part, head.first_query,
           last_queries(part, rows_).slice_heads(head.first_query, head.queries),
           gathered(part.keys.head(head.kv_head), kept.keep[h], keys),
           gathered(part.values.head(head.kv_head), kept.keep[h], values),
           {head.out, head.queries, rows_, dim});
  });
  for (size_t i = 0; i < change.size(); ++i) change[i] -= outputs_[i];
  const double changed = projected_norm(change);
  if (changed == 0.0) return 0.0;
  return norm_ > 0.0 ? changed / norm_ : std::numeric_limits<double>::infinity();
}

double OutputError::projected_norm(std::span<const float> x) const {
  const size_t dim = heads_.front().values.dim;
  const size_t query_heads = x.size() / (rows_ * dim);
  const size_t columns = (rows_ + kErrorLanes - 1) / kErrorLanes * kErrorLanes;
  AlignedVector<float> turned(query_heads * dim * columns, 0.0F);
  for (size_t h = 0; h < query_heads; ++h) {
    for (size_t r = 0; r < rows_; ++r) {
      const float* row = x.data() + (h * rows_ + r) * dim;
      for (size_t c = 0; c < dim; ++c) turned[(h * dim + c) * columns + r] = row[c];
    }
  }
  const size_t width = heads_.front().output_weights.rows;
  std::vector<double> sums((width + kChannels - 1) / kChannels);
  parallel_for(sums.size(), [&](size_t block, size_t) {
    thread_local AlignedVector<float> y;
    const size_t begin = block * kChannels;
    const size_t count = std::min(kChannels, width - begin);
    y.resize(kChannels * columns);
    std::vector<Matrix<const float>> weights;
    for (const LayerObservation& part : heads_) {
      weights.push_back(part.output_weights.slice(begin, count));
    }
    sums[block] = HWY_DYNAMIC_DISPATCH(ProjectedBlock)(weights, turned.data(), columns, y.data());
  });
  double sum = 0.0;
  for (const double of_block : sums) sum += of_block;
  return std::sqrt(sum);
}

void check_tolerance(const CompressionOptions& options) {
  const auto refuse = [](const std::string& message) {
    throw Error(ErrorCode::kInvalidArgument, message);
  };
  if (!(options.tolerance > 0.0 && options.tolerance < 1.0)) {
    refuse(
        fmt::format("tolerance is {}; the change of a layer's output that a budget may make must "
                    "be above 0 and below 1 (0.05 is usual)",
                    options.tolerance));
  }
  const Method& method = find_method(options.method);
  if (std::ranges::find(method.options, "tolerance") == method.options.end() ||
      options.window < 1) {
    refuse(
        fmt::format("method {} has no observation window{}, whose queries a budget that chooses "
                    "itself is measured with; choose restkv or snapkv for instance, or give a "
                    "budget",
                    options.method, options.window < 1 ? " (window 0)" : ""));
  }
  if (find_allocation(options.allocation).over_layers) {
    refuse(
        fmt::format("allocation {} shares one budget out over the layers, but with a tolerance "
                    "every layer chooses its own; choose the allocation uniform or ada",
                    options.allocation));
  }
  if (options.refit != Refit::kNone) {
    throw Error(ErrorCode::kInvalidArgument,
                "refit changes values after the error of a budget was measured; leave refit or the "
                "tolerance out");
  }
  if (options.merge) {
    refuse(
        "merge changes values after the error of a budget was measured; leave merge or the "
        "tolerance out");
  }
}

}  // namespace restkv
#endif
