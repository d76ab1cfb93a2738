#include "compress/reconstruction.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "base/threads.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/reconstruction.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "base/gemm-inl.h"
#include "hwy/highway.h"

#ifndef RESTKV_COMPRESS_RECONSTRUCTION_KERNELS_
#define RESTKV_COMPRESS_RECONSTRUCTION_KERNELS_
namespace restkv {

/// One block of positions, for all heads of a group.
struct AfterBlock {
  Matrix<const float> combined;  ///< [group, positions]
  Matrix<const float> values;    ///< [positions, d]
  Matrix<const float> outputs;   ///< [group, d], R applied
  const float* output_norms;     ///< [group]
  const OutputFactor* factor;
  size_t first_head;
  double tau;
  Matrix<float> raw;  ///< [group, positions]
};
struct BeforeBlock {
  Matrix<const float> attention;  ///< [group * window, positions]
  Matrix<const float> values;     ///< [positions, d]
  Matrix<const float> outputs;    ///< [group * window, d], R applied
  const float* output_norms;      ///< [group * window]
  const OutputFactor* factor;
  size_t first_head;
  const float* coefficients;  ///< [group * window]
  Matrix<float> raw;          ///< [group, positions]
};

}  // namespace restkv
#endif

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Rows of R per product: R is upper triangular, so rows from i on need inputs from i on only.
constexpr size_t kTriangleRows = 2 * kTileRows;

/// R x for the first `width` positions (whole vectors) of a tile x [d, kTilePositions], written to
/// `out`; x itself without a factor.
HWY_INLINE const float* Project(const OutputFactor* factor, size_t head, size_t width,
                                const float* HWY_RESTRICT x, float* HWY_RESTRICT out) {
  if (factor == nullptr) return x;
  const hn::ScalableTag<float> d;
  const Matrix<const float> r = factor->head(head);
  for (size_t i = 0; i < r.rows; i += kTriangleRows) {
    SmallProduct<false>(d, HWY_MIN(kTriangleRows, r.rows - i), width, r.cols - i, r.row(i) + i,
                        r.stride, x + i * kTilePositions, kTilePositions, out + i * kTilePositions,
                        kTilePositions);
  }
  return out;
}

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

void ScoreAfter(const AfterBlock& block) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const size_t dim = block.values.cols;
  AlignedVector<float> values(dim * kTilePositions);
  AlignedVector<float> projected(block.factor != nullptr ? dim * kTilePositions : 0);
  HWY_ALIGN float squares[kTilePositions];
  HWY_ALIGN float scores[kTilePositions];
  HWY_ALIGN float weights[kTilePositions] = {};
  // The authors' code raises to tau after the projection only.
  const bool square_root = block.factor == nullptr || block.tau == 1.0;
  const auto half_tau = static_cast<float>(block.tau / 2);
  for (size_t c = 0; c < block.values.rows; c += kTilePositions) {
    const size_t positions = HWY_MIN(kTilePositions, block.values.rows - c);
    const size_t width = (positions + lanes - 1) / lanes * lanes;
    TransposePadded(block.values.row(c), positions, dim, block.values.stride, values.data(),
                    kTilePositions, kTilePositions);
    for (size_t g = 0; g < block.combined.rows; ++g) {
      const float* u =
          Project(block.factor, block.first_head + g, width, values.data(), projected.data());
      TileSquaredDistances(block.outputs.slice(g, 1), u, squares);
      std::copy_n(block.combined.row(g) + c, positions, weights);
      const auto least = LeastSquare(d, block.output_norms[g]);
      for (size_t p = 0; p < width; p += lanes) {
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
        for (size_t p = 0; p < positions; ++p) scores[p] *= std::pow(squares[p], half_tau);
      }
      std::copy_n(scores, positions, block.raw.row(g) + c);
    }
  }
}

void ScoreBefore(const BeforeBlock& block) {
  const hn::ScalableTag<float> d;
  const size_t lanes = hn::Lanes(d);
  const size_t dim = block.values.cols;
  const size_t group = block.raw.rows;
  const size_t window = block.attention.rows / group;
  AlignedVector<float> values(dim * kTilePositions);
  AlignedVector<float> projected(block.factor != nullptr ? dim * kTilePositions : 0);
  AlignedVector<float> squares(window * kTilePositions);
  HWY_ALIGN float weights[kTilePositions] = {};
  HWY_ALIGN float sums[kTilePositions];
  for (size_t c = 0; c < block.values.rows; c += kTilePositions) {
    const size_t positions = HWY_MIN(kTilePositions, block.values.rows - c);
    const size_t width = (positions + lanes - 1) / lanes * lanes;
    TransposePadded(block.values.row(c), positions, dim, block.values.stride, values.data(),
                    kTilePositions, kTilePositions);
    for (size_t g = 0; g < group; ++g) {
      const float* u =
          Project(block.factor, block.first_head + g, width, values.data(), projected.data());
      TileSquaredDistances(block.outputs.slice(g * window, window), u, squares.data());
      std::fill(sums, sums + kTilePositions, 0.0F);
      for (size_t r = 0; r < window; ++r) {
        std::copy_n(block.attention.row(g * window + r) + c, positions, weights);
        const auto coefficient = hn::Set(d, block.coefficients[g * window + r]);
        const auto least = LeastSquare(d, block.output_norms[g * window + r]);
        for (size_t p = 0; p < width; p += lanes) {
          auto square = hn::LoadU(d, squares.data() + r * kTilePositions + p);
          const auto odds = BoundedOdds(d, hn::LoadU(d, weights + p), least, square);
          const auto error = hn::Mul(odds, hn::Sqrt(square));
          hn::StoreU(hn::MulAdd(coefficient, error, hn::LoadU(d, sums + p)), d, sums + p);
        }
      }
      std::copy_n(sums, positions, block.raw.row(g) + c);
    }
  }
}

/// out[row] += sum over positions of weights[row][n] * values[n], in tiles that are added up in
/// double so that the error does not grow with the prompt. out is [rows, d], row-major.
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
HWY_EXPORT(AddWeightedValues);
HWY_EXPORT(TimesValueNorm);

constexpr size_t kBlock = 512;  ///< Positions per task.

template <class T>
Matrix<T> columns(Matrix<T> m, size_t begin, size_t count) {
  return {m.data + begin, m.rows, count, m.stride};
}

/// Calls body(block, begin, count) for every block of `positions`, in parallel.
template <class Body>
void for_each_block(size_t positions, const Body& body) {
  parallel_for((positions + kBlock - 1) / kBlock, [&](size_t block, size_t) {
    const size_t begin = block * kBlock;
    body(block, begin, std::min(kBlock, positions - begin));
  });
}

/// Attention outputs [rows, d]: sum over weights.cols positions of weights[row][n] * values[n].
std::vector<float> weighted_values(Matrix<const float> weights, Matrix<const float> values) {
  const size_t size = weights.rows * values.cols;
  const size_t blocks = (weights.cols + kBlock - 1) / kBlock;
  std::vector<double> parts(blocks * size);  // added in a fixed order: same result on any threads
  for_each_block(weights.cols, [&](size_t block, size_t begin, size_t count) {
    HWY_DYNAMIC_DISPATCH(AddWeightedValues)
    (columns(weights, begin, count), values.slice(begin, count), &parts[block * size]);
  });
  std::vector<float> out(size);
  for (size_t i = 0; i < size; ++i) {
    double sum = 0.0;
    for (size_t b = 0; b < blocks; ++b) sum += parts[b * size + i];
    out[i] = static_cast<float>(sum);
  }
  return out;
}

/// x <- R x.
void project(Matrix<const float> r, std::span<float> x) {
  for (size_t i = 0; i < r.rows; ++i) {  // row i reads x[i..] only, so this works in place
    double sum = 0.0;
    for (size_t k = i; k < r.cols; ++k) sum += double{r.row(i)[k]} * double{x[k]};
    x[i] = static_cast<float>(sum);
  }
}

float norm(std::span<const float> x) {
  double square = 0.0;
  for (const float v : x) square += double{v} * double{v};
  return static_cast<float>(std::sqrt(square));
}

}  // namespace

void reconstruction_after(Matrix<const float> combined, Matrix<const float> values,
                          ErrorSpace space, double tau, Matrix<float> raw) {
  auto outputs = weighted_values(combined, values);
  const Matrix<float> outputs_view(outputs.data(), combined.rows, values.cols);
  std::vector<float> output_norms(combined.rows);
  for (size_t g = 0; g < combined.rows; ++g) {
    const auto output = outputs_view.row_span(g);
    if (space.factor != nullptr) project(space.factor->head(space.first_head + g), output);
    output_norms[g] = norm(output);
  }
  for_each_block(combined.cols, [&](size_t, size_t begin, size_t count) {
    const AfterBlock block{.combined = columns(combined, begin, count),
                           .values = values.slice(begin, count),
                           .outputs = outputs_view,
                           .output_norms = output_norms.data(),
                           .factor = space.factor,
                           .first_head = space.first_head,
                           .tau = tau,
                           .raw = columns(raw, begin, count)};
    HWY_DYNAMIC_DISPATCH(ScoreAfter)(block);
  });
}

void reconstruction_before(const WindowAttention& attention, Matrix<const float> values,
                           ErrorSpace space, bool normalize, std::span<const float> coefficients,
                           Matrix<float> raw) {
  const Matrix<const float> rows = attention.rows();
  auto outputs = weighted_values(rows, values);
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
    // An output of zero leaves nothing to relate the error to; its errors stay as they are.
    if (normalize && output_norms[i] > 0.0F) row_coefficients[i] /= output_norms[i];
  });
  for_each_block(raw.cols, [&](size_t, size_t begin, size_t count) {
    const BeforeBlock block{.attention = columns(rows, begin, count),
                            .values = values.slice(begin, count),
                            .outputs = outputs_view,
                            .output_norms = output_norms.data(),
                            .factor = space.factor,
                            .first_head = space.first_head,
                            .coefficients = row_coefficients.data(),
                            .raw = columns(raw, begin, count)};
    HWY_DYNAMIC_DISPATCH(ScoreBefore)(block);
  });
}

void attention_times_value(Matrix<const float> combined, Matrix<const float> values,
                           Matrix<float> raw) {
  for_each_block(combined.cols, [&](size_t, size_t begin, size_t count) {
    HWY_DYNAMIC_DISPATCH(TimesValueNorm)
    (columns(combined, begin, count), values.slice(begin, count), columns(raw, begin, count));
  });
}

}  // namespace restkv
#endif
