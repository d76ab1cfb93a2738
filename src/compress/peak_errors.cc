#include "compress/peak_errors.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <type_traits>
#include <vector>

#include "attention/attention_precision.h"
#include "attention/softmax_scale.h"
#include "base/threads.h"
#include "compress/finite.h"
#include "compress/reconstruction.h"
#include "compress/row_products.h"
#include "restkv/aligned.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/peak_errors.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "attention/prefill_operands-inl.h"
#include "base/math-inl.h"
#include "compress/finite_logits-inl.h"
#include "hwy/highway.h"

#ifndef RESTKV_COMPRESS_PEAK_ERRORS_TYPES_
#define RESTKV_COMPRESS_PEAK_ERRORS_TYPES_
namespace restkv {

/// ||W_h (o - v)||^2 = ||R o||^2 - 2 v . (R^T R o) + ||R v||^2, so that the distances of all
/// queries and positions are one product more.
struct PeakErrorTask {
  Heads<const float> queries;         ///< [query_heads, m, d]
  Heads<const float> outputs;         ///< [query_heads, m, dv]: R^T R o
  Matrix<const float> squares;        ///< [query_heads, m]: ||R o||^2
  Matrix<const float> lse;            ///< [query_heads, m]
  Heads<const float> keys, values;    ///< Of the range.
  Matrix<const float> bias;           ///< [kv_heads, range] or empty.
  Matrix<const float> value_squares;  ///< [query_heads, range]: ||R v||^2
  float scale, softcap;
  AttentionPrecision precision;
  std::span<const float> factors;  ///< [m], or empty.
  Matrix<float> peaks;             ///< [query_heads, range]
};

}  // namespace restkv
#endif

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

using ErrorTag = hn::CappedTag<float, 16>;
constexpr size_t kErrorLanes = hn::MaxLanes(ErrorTag());

/// What belongs to kTileRows rows of one query head.
struct ErrorRows {
  const float* lse;      ///< To base 2.
  const float* squares;  ///< ||R o||^2
  const float* factors;
};

/// Raises peaks [kTilePositions] to the squares of the errors of some rows.
template <int kExpDegree>
HWY_INLINE void RaisePeaks(const ErrorRows& rows, const float* HWY_RESTRICT logits,
                           const float* HWY_RESTRICT products,
                           const float* HWY_RESTRICT value_squares, float* HWY_RESTRICT peaks) {
  const ErrorTag d;
  const auto smallest = hn::Set(d, kSmallestRest);
  for (size_t j = 0; j < kTilePositions; j += kErrorLanes) {
    auto peak = hn::Load(d, peaks + j);
    const auto value_square = hn::Load(d, value_squares + j);
    for (size_t i = 0; i < kTileRows; ++i) {
      const auto logit = hn::Load(d, logits + i * kTilePositions + j);
      const auto a = Exp2<kExpDegree>(d, hn::Sub(logit, hn::Set(d, rows.lse[i])));
      const auto rest = hn::Max(hn::Sub(hn::Set(d, 1.0F), a), smallest);
      const auto odds = hn::Mul(hn::Div(a, rest), hn::Set(d, rows.factors[i]));
      const auto product = hn::Load(d, products + i * kTilePositions + j);
      const auto sum = hn::Add(value_square, hn::Set(d, rows.squares[i]));
      const auto square = hn::Max(hn::NegMulAdd(hn::Set(d, 2.0F), product, sum), hn::Zero(d));
      peak = hn::Max(peak, hn::Mul(hn::Mul(odds, odds), square));
    }
    hn::Store(peak, d, peaks + j);
  }
}

template <class Operands>
bool PeakErrorsIn(const PeakErrorTask& t) {
  const size_t kv_heads = t.keys.heads;
  const size_t queries = t.queries.rows;
  const size_t group = t.queries.heads / kv_heads;
  const size_t padded = hwy::RoundUpTo(queries, kTileRows);  // rows of a query head
  const size_t rows = group * padded;
  // Soft-capping needs logits in natural units.
  const float scale = t.softcap > 0 ? t.scale : t.scale * kLog2E;
  std::vector<Operands> packed_queries(kv_heads);
  std::vector<Operands> packed_outputs(kv_heads);
  // Rows between heads have no weight.
  AlignedVector<float> lse(kv_heads * rows), squares(kv_heads * rows), factors(kv_heads * rows);
  std::fill(lse.begin(), lse.end(), -kHiddenLogit);
  std::fill(squares.begin(), squares.end(), 0.0F);
  std::fill(factors.begin(), factors.end(), 0.0F);
  parallel_for(kv_heads, [&](size_t kv_head, size_t) HWY_ATTR {
    Operands& q = packed_queries[kv_head];
    Operands& o = packed_outputs[kv_head];
    q.ResizeQueries(rows, t.queries.dim);
    o.ResizeQueries(rows, t.outputs.dim);
    for (size_t g = 0; g < group; ++g) {
      const size_t h = kv_head * group + g;
      for (size_t r = 0; r < queries; ++r) {
        const size_t row = g * padded + r;
        q.SetQuery(row, t.queries.row(h, r), scale);
        o.SetQuery(row, t.outputs.row(h, r), 1.0F);
        lse[kv_head * rows + row] = t.lse.row(h)[r] * kLog2E;
        squares[kv_head * rows + row] = t.squares.row(h)[r];
        factors[kv_head * rows + row] = t.factors.empty() ? 1.0F : t.factors[r];
      }
      q.ClearQueries(g * padded + queries, (g + 1) * padded);
      o.ClearQueries(g * padded + queries, (g + 1) * padded);
    }
  });

  const size_t tiles = hwy::DivCeil(t.keys.rows, kTilePositions);
  std::vector<Operands> keys(static_cast<size_t>(num_threads()));
  std::vector<Operands> values(static_cast<size_t>(num_threads()));
  std::atomic<bool> finite = true;
  parallel_for(kv_heads * tiles, [&](size_t task, size_t thread) HWY_ATTR {
    const size_t kv_head = task / tiles;
    const size_t begin = task % tiles * kTilePositions;
    const size_t count = HWY_MIN(kTilePositions, t.keys.rows - begin);
    Operands& k = keys[thread];
    Operands& v = values[thread];
    k.ResizeKeys(t.keys.dim);
    k.SetKeys(t.keys.row(kv_head, begin), count, t.keys.row_stride);
    v.ResizeKeys(t.values.dim);
    v.SetKeys(t.values.row(kv_head, begin), count, t.values.row_stride);
    HWY_ALIGN float logits[kTileRows * kTilePositions];
    HWY_ALIGN float products[kTileRows * kTilePositions];
    HWY_ALIGN float peaks[kTilePositions];
    HWY_ALIGN float value_squares[kTilePositions] = {};
    HWY_ALIGN float biases[kTilePositions];
    const float* bias = TileBias(t.bias, kv_head, begin, count, biases) ? biases : nullptr;
    for (size_t g = 0; g < group; ++g) {
      const size_t h = kv_head * group + g;
      std::copy_n(t.value_squares.row(h) + begin, count, value_squares);
      std::fill(peaks, peaks + kTilePositions, 0.0F);
      for (size_t row = g * padded; row < (g + 1) * padded; row += kTileRows) {
        if (!FiniteLogits(k, packed_queries[kv_head], row, t.softcap, bias, logits)) finite = false;
        if (!FiniteLogits(v, packed_outputs[kv_head], row, 0.0F, nullptr, products)) finite = false;
        const size_t at = kv_head * rows + row;
        RaisePeaks<Operands::kExpDegree>({&lse[at], &squares[at], &factors[at]}, logits, products,
                                         value_squares, peaks);
      }
      float* to = t.peaks.row(h) + begin;
      for (size_t j = 0; j < count; ++j) {
        const float error = std::sqrt(peaks[j]);
        to[j] = to[j] >= error ? to[j] : error;  // also if to[j] is NaN
      }
    }
  });
  return finite;
}

bool PeakErrors(const PeakErrorTask& task) {
  bool finite = false;
  WithOperands(task.precision, [&](auto* operands) HWY_ATTR {
    finite = PeakErrorsIn<std::remove_pointer_t<decltype(operands)>>(task);
  });
  return finite;
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(PeakErrors);

/// R^T R for an upper triangular R; sums in double.
AlignedVector<float> square_of(Matrix<const float> r) {
  AlignedVector<float> form(r.rows * r.rows);
  for (size_t i = 0; i < r.rows; ++i) {
    for (size_t j = i; j < r.rows; ++j) {
      double sum = 0;
      for (size_t k = 0; k <= i; ++k) sum += double{r.row(k)[i]} * double{r.row(k)[j]};
      form[i * r.rows + j] = form[j * r.rows + i] = static_cast<float>(sum);
    }
  }
  return form;
}

}  // namespace

void add_peak_errors(const BlockObservation& block, std::span<const float> factors,
                     Matrix<float> peaks) {
  require_support(block.precision);
  const size_t heads = block.queries.heads;
  const size_t m = block.queries.rows;
  const size_t dim = block.values.dim;
  const size_t range = block.end - block.begin;
  const size_t group = heads / block.keys.heads;
  const auto values = block.values.slice_rows(block.begin, range);
  AlignedVector<float> turned(heads * m * dim), squares(heads * m), value_squares(heads * range);
  parallel_for(heads, [&](size_t h, size_t) {
    const Matrix<const float> r = block.output->head(block.first_query_head + h);
    const AlignedVector<float> form = square_of(r);
    for (size_t t = 0; t < m; ++t) {
      const float* o = block.outputs.row(h, t);
      float* to = &turned[(h * m + t) * dim];
      std::fill_n(to, dim, 0.0F);
      for (size_t i = 0; i < dim; ++i) {
        for (size_t j = 0; j < dim; ++j) to[j] += form[i * dim + j] * o[i];
      }
      double square = 0;
      for (size_t i = 0; i < dim; ++i) square += double{to[i]} * double{o[i]};
      squares[h * m + t] = static_cast<float>(std::max(square, 0.0));
    }
    projected_squares(values.head(h / group), r, {&value_squares[h * range], range});
  });
  Matrix<const float> bias = block.bias;
  if (bias.data != nullptr) bias.data += block.begin;
  const PeakErrorTask task{
      .queries = block.queries,
      .outputs = {turned.data(), heads, m, dim},
      .squares = {squares.data(), heads, m},
      .lse = block.lse,
      .keys = block.keys.slice_rows(block.begin, range),
      .values = values,
      .bias = bias,
      .value_squares = {value_squares.data(), heads, range},
      .scale = softmax_scale(block.scale, block.keys.dim),
      .softcap = block.softcap,
      .precision = block.precision,
      .factors = factors,
      .peaks = {peaks.data + block.begin, peaks.rows, range, peaks.stride},
  };
  if (HWY_DYNAMIC_DISPATCH(PeakErrors)(task)) return;
  throw_not_finite(block);
}

}  // namespace restkv
#endif
