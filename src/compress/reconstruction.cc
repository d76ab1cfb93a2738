#include "compress/reconstruction.h"

#include <algorithm>
#include <cmath>
#include <type_traits>
#include <vector>

#include "base/prefetch.h"
#include "base/threads.h"
#include "compress/position_blocks.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/reconstruction.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "attention/prefill_operands-inl.h"
#include "base/gemm-inl.h"
#include "hwy/highway.h"

#ifndef RESTKV_COMPRESS_RECONSTRUCTION_KERNELS_
#define RESTKV_COMPRESS_RECONSTRUCTION_KERNELS_
namespace restkv {

/// Errors of all query heads if a position is evicted.
struct AfterTask {
  Matrix<const float> combined;  ///< [query_heads, positions]
  Heads<const float> values;     ///< [kv_heads, positions, d]
  Matrix<const float> outputs;   ///< [query_heads, d], R applied
  const float* output_norms;     ///< [query_heads]
  ErrorSpace space;
  double tau;
  Matrix<float> raw;  ///< [query_heads, positions]
};
/// The same for the query heads of one KV head, for each row of the window.
struct BeforeTask {
  Matrix<const float> attention;  ///< [group * window, positions]
  Heads<const float> values;      ///< [1, positions, d]
  Matrix<const float> outputs;    ///< [group * window, d], R applied
  const float* output_norms;      ///< [group * window]
  ErrorSpace space;
  const float* coefficients;  ///< [group * window]
  Matrix<float> raw;          ///< [group, positions]
};
/// DropKV's squared errors of the query heads of one KV head, summed over the rows of the window.
struct SquaredTask {
  Matrix<const float> attention;  ///< [group * window, positions]
  Heads<const float> values;      ///< [1, positions, d]
  Matrix<const float> outputs;    ///< [group * window, d]
  float epsilon;
  Matrix<float> raw;  ///< [group, positions]
};

}  // namespace restkv
#endif

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// squares[r][p] = ||points[r] - u_p||^2 for kRows rows of points and kVectors vectors of
/// positions, held in registers; u is [dim, kTilePositions].
template <size_t kRows, size_t kVectors>
HWY_INLINE void SquaredDistances(Matrix<const float> points, const float* HWY_RESTRICT u,
                                 float* HWY_RESTRICT squares) {
  const hn::ScalableTag<float> d;
  constexpr size_t kLanes = hn::MaxLanes(d);
  hn::Vec<decltype(d)> sum[kRows][kVectors];
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) sum[i][j] = hn::Zero(d);
  }
  for (size_t k = 0; k < points.cols; ++k) {
    hn::Vec<decltype(d)> column[kVectors];
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) {
      column[j] = hn::LoadU(d, u + k * kTilePositions + j * kLanes);
    }
#pragma GCC unroll 8
    for (size_t i = 0; i < kRows; ++i) {
      const auto x = hn::Set(d, points.row(i)[k]);
#pragma GCC unroll 8
      for (size_t j = 0; j < kVectors; ++j) {
        const auto difference = hn::Sub(x, column[j]);
        sum[i][j] = hn::MulAdd(difference, difference, sum[i][j]);
      }
    }
  }
#pragma GCC unroll 8
  for (size_t i = 0; i < kRows; ++i) {
#pragma GCC unroll 8
    for (size_t j = 0; j < kVectors; ++j) {
      hn::StoreU(sum[i][j], d, squares + i * kTilePositions + j * kLanes);
    }
  }
}

/// The same for a whole tile and any number of points.
HWY_INLINE void TileSquaredDistances(Matrix<const float> points, const float* HWY_RESTRICT u,
                                     float* HWY_RESTRICT squares) {
  constexpr size_t kRows = 4;
  constexpr size_t kVectors = kTileVectors;
  constexpr size_t kWidth = kVectors * hn::MaxLanes(hn::ScalableTag<float>());
  static_assert(kTilePositions % kWidth == 0);
  size_t i = 0;
  for (; i + kRows <= points.rows; i += kRows) {
    for (size_t p = 0; p < kTilePositions; p += kWidth) {
      SquaredDistances<kRows, kVectors>(points.slice(i, kRows), u + p,
                                        squares + i * kTilePositions + p);
    }
  }
  for (; i < points.rows; ++i) {
    for (size_t p = 0; p < kTilePositions; p += kWidth) {
      SquaredDistances<1, kVectors>(points.slice(i, 1), u + p, squares + i * kTilePositions + p);
    }
  }
}

/// R of some query heads, packed for products with values: u = R v. Without a factor u = v.
template <class Operands>
class Projections {
 public:
  Projections(ErrorSpace space, size_t heads, size_t dim)
      : padded_rows_(hwy::RoundUpTo(dim, kTileRows)) {
    if (space.factor == nullptr) return;
    rows_.resize(heads);
    parallel_for(heads, [&](size_t h, size_t) {
      const Matrix<const float> r = space.factor->head(space.first_head + h);
      rows_[h].ResizeQueries(padded_rows_, dim, dim);
      for (size_t i = 0; i < dim; ++i) rows_[h].SetQuery(i, r.row(i), 1.0F);
      rows_[h].ClearQueries(dim, padded_rows_);
    });
  }

  /// A tile of up to kTilePositions values, for one thread.
  class Tile {
   public:
    HWY_INLINE void Set(const Projections& projections, const float* values, size_t positions,
                        size_t dim, size_t stride) {
      if (projections.rows_.empty()) {
        u_.resize(dim * kTilePositions);
        TransposePadded(values, positions, dim, stride, u_.data(), kTilePositions, kTilePositions);
        return;
      }
      values_.ResizeKeys(dim, dim);
      values_.SetKeys(values, positions, stride);
    }
    /// squares[r][p] = ||points[r] - u_p||^2 for query head `h`. Interleaves calls of
    /// meanwhile(part, parts), for prefetching.
    template <class Meanwhile>
    HWY_INLINE void SquaredDistances(const Projections& projections, size_t h,
                                     Matrix<const float> points, float* HWY_RESTRICT squares,
                                     const Meanwhile& meanwhile) {
      if (projections.rows_.empty()) {
        meanwhile(0, 1);
        return TileSquaredDistances(points, u_.data(), squares);
      }
      const Operands& r = projections.rows_[h];
      const size_t padded_rows = projections.padded_rows_;
      const size_t strips = padded_rows / kTileRows;
      // R is upper triangular: rows from i on need inputs from i on only.
      const auto first_input = [](size_t i) { return i / 4 * 4; };
      if constexpr (requires { &Operands::AddSquaredDistances; }) {
        if (points.rows == 1) {  // u is used only once
          point_.assign(padded_rows, 0.0F);
          std::copy_n(points.data, points.cols, point_.begin());
          std::fill_n(squares, kTilePositions, 0.0F);
          for (size_t i = 0; i < padded_rows; i += kTileRows) {
            meanwhile(i / kTileRows, strips);
            values_.AddSquaredDistances(r, i, first_input(i), point_.data() + i, squares);
          }
          return;
        }
      }
      u_.resize(padded_rows * kTilePositions);
      for (size_t i = 0; i < padded_rows; i += kTileRows) {
        meanwhile(i / kTileRows, strips);
        values_.template Logits<false>(r, i, u_.data() + i * kTilePositions, first_input(i));
      }
      TileSquaredDistances(points, u_.data(), squares);
    }

   private:
    Operands values_;
    AlignedVector<float> u_;      // [dim or more, kTilePositions]
    AlignedVector<float> point_;  // [padded_rows]
  };

 private:
  size_t padded_rows_;
  std::vector<Operands> rows_;  // empty without a factor
};

/// a / (1 - a), and with it a lower bound of squared norms where 1 - a vanishes: see kSmallestRest.
template <class D, class V = hn::Vec<D>>
HWY_INLINE V BoundedOdds(D d, V a, V least_square, V& squares) {
  const auto smallest = hn::Set(d, kSmallestRest);
  const auto rest = hn::Sub(hn::Set(d, 1.0F), a);
  squares = hn::IfThenElse(hn::Lt(smallest, rest), squares, hn::Max(squares, least_square));
  return hn::Div(a, hn::Max(rest, smallest));
}

/// (kSmallestRest * norm)^2 in every lane.
template <class D>
HWY_INLINE hn::Vec<D> LeastSquare(D d, float norm) {
  return hn::Set(d, (kSmallestRest * norm) * (kSmallestRest * norm));
}

/// Fills a tile and calls body(tile, kv_head, begin, positions) for every tile of `values`, in
/// parallel.
template <class Operands, class Body>
void ForEachTile(const Projections<Operands>& projections, const Heads<const float>& values,
                 const Body& body) {
  for_each_block(values.heads, values.rows, [&](size_t kv_head, size_t begin, size_t end) {
    thread_local typename Projections<Operands>::Tile tile;  // reused between calls
    for (size_t c = begin; c < end; c += kTilePositions) {
      const size_t positions = HWY_MIN(kTilePositions, end - c);
      tile.Set(projections, values.row(kv_head, c), positions, values.dim, values.row_stride);
      body(tile, kv_head, c, positions);
    }
  });
}

/// Prefetches the tile after the one at `begin`, a part at a time, while head g of a group is
/// scored.
auto NextTile(const Heads<const float>& values, size_t kv_head, size_t begin, size_t g,
              size_t group) {
  return [&values, kv_head, begin, g, group](size_t part, size_t parts) HWY_ATTR {
    prefetch_rows(values, kv_head, begin + kTilePositions, kTilePositions, g * parts + part,
                  group * parts);
  };
}

template <class Operands>
void ScoreAfterIn(const AfterTask& task) {
  const size_t group = task.combined.rows / task.values.heads;
  const Projections<Operands> projections(task.space, task.combined.rows, task.values.dim);
  // The authors' code raises to tau after the projection only.
  const bool square_root = task.space.factor == nullptr || task.tau == 1.0;
  const auto half_tau = static_cast<float>(task.tau / 2);
  ForEachTile(projections, task.values,
              [&](auto& tile, size_t kv_head, size_t c, size_t positions) HWY_ATTR {
                const hn::ScalableTag<float> d;
                const size_t lanes = hn::Lanes(d);
                HWY_ALIGN float squares[kTilePositions];
                HWY_ALIGN float scores[kTilePositions];
                HWY_ALIGN float weights[kTilePositions] = {};
                for (size_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
                  tile.SquaredDistances(projections, h, task.outputs.slice(h, 1), squares,
                                        NextTile(task.values, kv_head, c, h % group, group));
                  CopyPositions(task.combined.row(h) + c, positions, weights);
                  const auto least = LeastSquare(d, task.output_norms[h]);
                  for (size_t p = 0; p < kTilePositions; p += lanes) {
                    auto square = hn::LoadU(d, squares + p);
                    const auto odds = BoundedOdds(d, hn::LoadU(d, weights + p), least, square);
                    if (square_root) {
                      hn::StoreU(hn::Mul(odds, hn::Sqrt(square)), d, scores + p);
                    } else {
                      hn::StoreU(square, d, squares + p);
                      hn::StoreU(odds, d, scores + p);
                    }
                  }
                  if (!square_root) {
                    for (size_t p = 0; p < positions; ++p)
                      scores[p] *= std::pow(squares[p], half_tau);
                  }
                  CopyPositions(scores, positions, task.raw.row(h) + c);
                }
              });
}

template <class Operands>
void ScoreBeforeIn(const BeforeTask& task) {
  const size_t group = task.raw.rows;
  const size_t window = task.attention.rows / group;
  const Projections<Operands> projections(task.space, group, task.values.dim);
  ForEachTile(
      projections, task.values, [&](auto& tile, size_t, size_t c, size_t positions) HWY_ATTR {
        const hn::ScalableTag<float> d;
        const size_t lanes = hn::Lanes(d);
        AlignedVector<float> squares(window * kTilePositions);
        HWY_ALIGN float weights[kTilePositions] = {};
        HWY_ALIGN float sums[kTilePositions];
        for (size_t g = 0; g < group; ++g) {
          tile.SquaredDistances(projections, g, task.outputs.slice(g * window, window),
                                squares.data(), NextTile(task.values, 0, c, g, group));
          std::fill(sums, sums + kTilePositions, 0.0F);
          for (size_t r = 0; r < window; ++r) {
            CopyPositions(task.attention.row(g * window + r) + c, positions, weights);
            const auto coefficient = hn::Set(d, task.coefficients[g * window + r]);
            const auto least = LeastSquare(d, task.output_norms[g * window + r]);
            for (size_t p = 0; p < kTilePositions; p += lanes) {
              auto square = hn::LoadU(d, squares.data() + r * kTilePositions + p);
              const auto odds = BoundedOdds(d, hn::LoadU(d, weights + p), least, square);
              const auto error = hn::Mul(odds, hn::Sqrt(square));
              hn::StoreU(hn::MulAdd(coefficient, error, hn::LoadU(d, sums + p)), d, sums + p);
            }
          }
          CopyPositions(sums, positions, task.raw.row(g) + c);
        }
      });
}

void ScoreSquared(const SquaredTask& task) {
  const size_t group = task.raw.rows;
  const size_t window = task.attention.rows / group;
  for_each_block(1, task.values.rows, [&](size_t, size_t begin, size_t end) HWY_ATTR {
    const hn::ScalableTag<float> d;
    const size_t lanes = hn::Lanes(d);
    AlignedVector<float> tile(task.values.dim * kTilePositions);
    AlignedVector<float> squares(window * kTilePositions);
    HWY_ALIGN float weights[kTilePositions] = {};
    HWY_ALIGN float sums[kTilePositions];
    const auto one = hn::Set(d, 1.0F);
    const auto epsilon = hn::Set(d, task.epsilon);
    for (size_t c = begin; c < end; c += kTilePositions) {
      const size_t positions = HWY_MIN(kTilePositions, end - c);
      TransposePadded(task.values.row(0, c), positions, task.values.dim, task.values.row_stride,
                      tile.data(), kTilePositions, kTilePositions);
      for (size_t g = 0; g < group; ++g) {
        TileSquaredDistances(task.outputs.slice(g * window, window), tile.data(), squares.data());
        std::fill(sums, sums + kTilePositions, 0.0F);
        for (size_t r = 0; r < window; ++r) {
          CopyPositions(task.attention.row(g * window + r) + c, positions, weights);
          for (size_t p = 0; p < kTilePositions; p += lanes) {
            const auto weight = hn::LoadU(d, weights + p);
            const auto odds = hn::Div(weight, hn::Add(hn::Sub(one, weight), epsilon));
            const auto square = hn::LoadU(d, squares.data() + r * kTilePositions + p);
            hn::StoreU(hn::MulAdd(hn::Mul(odds, odds), square, hn::LoadU(d, sums + p)), d,
                       sums + p);
          }
        }
        CopyPositions(sums, positions, task.raw.row(g) + c);
      }
    }
  });
}

void ScoreAfter(const AfterTask& task) {
  WithOperands(task.space.precision, [&](auto* operands) HWY_ATTR {
    ScoreAfterIn<std::remove_pointer_t<decltype(operands)>>(task);
  });
}

void ScoreBefore(const BeforeTask& task) {
  WithOperands(task.space.precision, [&](auto* operands) HWY_ATTR {
    ScoreBeforeIn<std::remove_pointer_t<decltype(operands)>>(task);
  });
}

/// out[row] += sum over positions of weights[row][n] * values[n]. Tiles are added in double, so
/// that the error does not grow with the prompt. out is [rows, d], row-major.
void AddWeightedValues(Matrix<const float> weights, Matrix<const float> values,
                       double* HWY_RESTRICT out) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const size_t dim = values.cols;
  const size_t padded = (dim + lanes - 1) / lanes * lanes;
  AlignedVector<float> tile(padded == dim ? 0 : kTilePositions * padded);
  AlignedVector<float> part(weights.rows * padded);
  for (size_t c = 0; c < values.rows; c += kTilePositions) {
    const size_t positions = HWY_MIN(kTilePositions, values.rows - c);
    Matrix<const float> rows = values.slice(c, positions);
    if (padded != dim) {  // whole vectors for the product
      std::fill(tile.begin(), tile.end(), 0.0F);
      for (size_t p = 0; p < positions; ++p) std::copy_n(rows.row(p), dim, &tile[p * padded]);
      rows = {tile.data(), positions, padded};
    }
    SmallProduct<false>(d, weights.rows, padded, positions, weights.data + c, weights.stride,
                        rows.data, rows.stride, part.data(), padded);
    for (size_t r = 0; r < weights.rows; ++r) {
      for (size_t k = 0; k < dim; ++k) out[r * dim + k] += double{part[r * padded + k]};
    }
  }
}

/// x <- R x for an upper triangular R; sums in double.
void ProjectOutput(Matrix<const float> r, float* HWY_RESTRICT x) {
  const hn::ScalableTag<double> d;
  const hn::Rebind<float, decltype(d)> df;
  const size_t lanes = hn::Lanes(d);
  for (size_t i = 0; i < r.rows; ++i) {  // row i reads x[i..] only, so this works in place
    const float* HWY_RESTRICT row = r.row(i);
    auto sums = hn::Zero(d);
    size_t k = i;
    for (; k + lanes <= r.cols; k += lanes) {
      sums = hn::MulAdd(hn::PromoteTo(d, hn::LoadU(df, row + k)),
                        hn::PromoteTo(d, hn::LoadU(df, x + k)), sums);
    }
    double sum = hn::GetLane(hn::SumOfLanes(d, sums));
    for (; k < r.cols; ++k) sum += double{row[k]} * double{x[k]};
    x[i] = static_cast<float>(sum);
  }
}

/// raw[g][n] = combined[g][n] * ||v_n||.
void TimesValueNorm(Matrix<const float> combined, Matrix<const float> values, Matrix<float> raw) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  for (size_t n = 0; n < values.rows; ++n) {
    const float* HWY_RESTRICT v = values.row(n);
    auto sum = hn::Zero(d);
    size_t k = 0;
    for (; k + lanes <= values.cols; k += lanes) {
      const auto x = hn::LoadU(d, v + k);
      sum = hn::MulAdd(x, x, sum);
    }
    float square = hn::GetLane(hn::SumOfLanes(d, sum));
    for (; k < values.cols; ++k) square += v[k] * v[k];
    const float norm = std::sqrt(square);
    for (size_t g = 0; g < raw.rows; ++g) raw.row(g)[n] = combined.row(g)[n] * norm;
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(ScoreAfter);
HWY_EXPORT(ScoreBefore);
HWY_EXPORT(ScoreSquared);
HWY_EXPORT(AddWeightedValues);
HWY_EXPORT(ProjectOutput);
HWY_EXPORT(TimesValueNorm);

template <class T>
Matrix<T> columns(Matrix<T> m, size_t begin, size_t count) {
  return {m.data + begin, m.rows, count, m.stride};
}

/// Attention outputs [rows, d]: sum over weights.cols positions of weights[row][n] * values[n].
/// Every KV head has the same number of rows.
AlignedVector<float> weighted_values(Matrix<const float> weights, Heads<const float> values) {
  const size_t group = weights.rows / values.heads;
  const size_t size = group * values.dim;
  const size_t blocks = position_blocks(weights.cols);
  // Parts are added in a fixed order, so that the result does not depend on the number of threads.
  std::vector<double> parts(values.heads * blocks * size);
  for_each_block(values.heads, weights.cols, [&](size_t kv_head, size_t begin, size_t end) {
    const size_t part = kv_head * blocks + begin / kBlockPositions;
    HWY_DYNAMIC_DISPATCH(AddWeightedValues)
    (columns(weights.slice(kv_head * group, group), begin, end - begin),
     values.head(kv_head).slice(begin, end - begin), &parts[part * size]);
  });
  AlignedVector<float> out(values.heads * size);
  for (size_t i = 0; i < out.size(); ++i) {
    const double* part = &parts[i / size * blocks * size + i % size];
    double sum = 0.0;
    for (size_t b = 0; b < blocks; ++b) sum += part[b * size];
    out[i] = static_cast<float>(sum);
  }
  return out;
}

/// x <- R x.
void project(Matrix<const float> r, std::span<float> x) {
  HWY_DYNAMIC_DISPATCH(ProjectOutput)(r, x.data());
}

float norm(std::span<const float> x) {
  double square = 0.0;
  for (const float v : x) square += double{v} * double{v};
  return static_cast<float>(std::sqrt(square));
}

}  // namespace

AlignedVector<float> combined_outputs(const LayerObservation& layer,
                                      std::span<const float> coefficients,
                                      Matrix<const float> combined) {
  const Heads<const float>& values = layer.values;
  const size_t window = coefficients.size();
  const size_t past = combined.cols - window;
  if (layer.outputs.rows < window) return weighted_values(columns(combined, 0, past), values);
  // The outputs of all rows, minus the contribution of the window.
  const size_t heads = combined.rows;
  const size_t group = heads / values.heads;
  AlignedVector<float> out(heads * values.dim);
  parallel_for(heads, [&](size_t h, size_t) {
    std::vector<double> all(values.dim);
    std::vector<double> window_only(values.dim);
    HWY_DYNAMIC_DISPATCH(AddWeightedValues)
    ({coefficients.data(), 1, window},
     layer.outputs.head(h).slice(layer.outputs.rows - window, window), all.data());
    HWY_DYNAMIC_DISPATCH(AddWeightedValues)
    (columns(combined.slice(h, 1), past, window), values.head(h / group).slice(past, window),
     window_only.data());
    for (size_t k = 0; k < values.dim; ++k) {
      out[h * values.dim + k] = static_cast<float>(all[k] - window_only[k]);
    }
  });
  return out;
}

void reconstruction_after(Matrix<const float> combined, AlignedVector<float> outputs,
                          Heads<const float> values, ErrorSpace space, double tau,
                          Matrix<float> raw) {
  const Matrix<float> outputs_view(outputs.data(), combined.rows, values.dim);
  std::vector<float> output_norms(combined.rows);
  parallel_for(combined.rows, [&](size_t h, size_t) {
    const auto output = outputs_view.row_span(h);
    if (space.factor != nullptr) project(space.factor->head(space.first_head + h), output);
    output_norms[h] = norm(output);
  });
  HWY_DYNAMIC_DISPATCH(ScoreAfter)
  ({.combined = combined,
    .values = values.slice_rows(0, combined.cols),
    .outputs = outputs_view,
    .output_norms = output_norms.data(),
    .space = space,
    .tau = tau,
    .raw = raw});
}

AlignedVector<float> row_outputs(const LayerObservation& layer, const WindowAttention& attention,
                                 size_t kv_head) {
  const Matrix<const float> rows = attention.rows();
  const size_t window = attention.window();
  const size_t dim = layer.values.dim;
  if (layer.outputs.rows < window) {
    return weighted_values(rows, layer.values.slice_heads(kv_head, 1));
  }
  AlignedVector<float> out(rows.rows * dim);
  for (size_t i = 0; i < rows.rows; ++i) {
    const size_t row = layer.outputs.rows - window + i % window;
    std::copy_n(layer.outputs.row(kv_head * attention.group() + i / window, row), dim,
                out.data() + i * dim);
  }
  return out;
}

void reconstruction_before(const WindowAttention& attention, AlignedVector<float> outputs,
                           Matrix<const float> values, ErrorSpace space, bool normalize,
                           std::span<const float> coefficients, Matrix<float> raw) {
  const Matrix<const float> rows = attention.rows();
  const Heads<const float> head(values.data, 1, values.rows, values.cols, 0, values.stride);
  const Matrix<float> outputs_view(outputs.data(), rows.rows, values.cols);
  std::vector<float> output_norms(rows.rows);
  std::vector<float> row_coefficients(rows.rows);
  parallel_for(rows.rows, [&](size_t i, size_t) {
    const auto output = outputs_view.row_span(i);
    if (space.factor != nullptr) {
      project(space.factor->head(space.first_head + i / attention.window()), output);
    }
    output_norms[i] = norm(output);
    row_coefficients[i] = coefficients[i % attention.window()];
    // Errors of a zero output are not normalised.
    if (normalize && output_norms[i] > 0.0F) row_coefficients[i] /= output_norms[i];
  });
  HWY_DYNAMIC_DISPATCH(ScoreBefore)
  ({.attention = rows,
    .values = head.slice_rows(0, raw.cols),
    .outputs = outputs_view,
    .output_norms = output_norms.data(),
    .space = space,
    .coefficients = row_coefficients.data(),
    .raw = raw});
}

void squared_reconstruction(const WindowAttention& attention, const AlignedVector<float>& outputs,
                            Matrix<const float> values, float epsilon, Matrix<float> raw) {
  const Matrix<const float> rows = attention.rows();
  const Heads<const float> head(values.data, 1, values.rows, values.cols, 0, values.stride);
  HWY_DYNAMIC_DISPATCH(ScoreSquared)
  ({.attention = rows,
    .values = head.slice_rows(0, raw.cols),
    .outputs = {outputs.data(), rows.rows, values.cols},
    .epsilon = epsilon,
    .raw = raw});
}

void attention_times_value(Matrix<const float> combined, Heads<const float> values,
                           Matrix<float> raw) {
  const size_t group = combined.rows / values.heads;
  for_each_block(values.heads, combined.cols, [&](size_t kv_head, size_t begin, size_t end) {
    HWY_DYNAMIC_DISPATCH(TimesValueNorm)
    (columns(combined.slice(kv_head * group, group), begin, end - begin),
     values.head(kv_head).slice(begin, end - begin),
     columns(raw.slice(kv_head * group, group), begin, end - begin));
  });
}

}  // namespace restkv
#endif
