#include "compress/leverage.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <numeric>

#include "base/random.h"
#include "base/threads.h"
#include "compress/cholesky.h"
#include "compress/row_products.h"
#include "restkv/aligned.h"
#include "restkv/error.h"

namespace restkv {
namespace {

/// Added to the diagonal, so that the inverse exists for fewer rows than columns, too.
constexpr double kRidge = 0.01;

/// Rows less their mean: [n, d].
AlignedVector<float> centre(Matrix<const float> rows) {
  std::vector<double> mean(rows.cols, 0.0);
  for (size_t i = 0; i < rows.rows; ++i) {
    for (size_t c = 0; c < rows.cols; ++c) mean[c] += double{rows.row(i)[c]};
  }
  for (double& x : mean) x /= static_cast<double>(rows.rows);
  AlignedVector<float> centred(rows.rows * rows.cols);
  for (size_t i = 0; i < rows.rows; ++i) {
    for (size_t c = 0; c < rows.cols; ++c) {
      centred[i * rows.cols + c] = static_cast<float>(double{rows.row(i)[c]} - mean[c]);
    }
  }
  return centred;
}

/// The sum of rows[i]^T rows[i] [d, d]. Few rows carry the smallest eigenvalues, which single
/// precision would lose.
std::vector<double> precise_gram(Matrix<const float> rows) {
  constexpr size_t kTogether = 4;  // so that sums are read and written less often
  const size_t d = rows.cols;
  std::vector<double> gram(d * d, 0.0), block(kTogether * d, 0.0);
  for (size_t begin = 0; begin < rows.rows; begin += kTogether) {
    const size_t count = std::min(kTogether, rows.rows - begin);
    std::fill(block.begin() + static_cast<ptrdiff_t>(count * d), block.end(), 0.0);
    for (size_t i = 0; i < count; ++i) std::copy_n(rows.row(begin + i), d, &block[i * d]);
    const double *x0 = block.data(), *x1 = x0 + d, *x2 = x1 + d, *x3 = x2 + d;
    for (size_t a = 0; a < d; ++a) {
      double* sums = &gram[a * d];
      for (size_t b = a; b < d; ++b) {
        sums[b] += (x0[a] * x0[b] + x1[a] * x1[b]) + (x2[a] * x2[b] + x3[a] * x3[b]);
      }
    }
  }
  for (size_t a = 0; a < d; ++a) {
    for (size_t b = 0; b < a; ++b) gram[a * d + b] = gram[b * d + a];
  }
  return gram;
}

/// U [d, d] such that ||U y||^2 is the leverage of the centred row y whose Gram matrix is given:
/// U^T U = S/sqrt(s) (S^T gram S / s + 0.01 I)^-1 S^T/sqrt(s).
std::vector<float> leverage_factor(std::span<const double> gram, Matrix<const float> sketch) {
  const size_t d = sketch.rows, s = sketch.cols;
  const double scale = 1.0 / std::sqrt(static_cast<double>(s));
  std::vector<double> half(d * s, 0.0), r(s * s, 0.0);
  for (size_t a = 0; a < d; ++a) {
    for (size_t c = 0; c < d; ++c) {
      const double x = gram[a * d + c] * scale;
      for (size_t j = 0; j < s; ++j) half[a * s + j] += x * double{sketch.row(c)[j]};
    }
  }
  for (size_t a = 0; a < d; ++a) {
    for (size_t i = 0; i < s; ++i) {
      const double x = double{sketch.row(a)[i]} * scale;
      for (size_t j = i; j < s; ++j) r[i * s + j] += x * half[a * s + j];
    }
  }
  for (size_t i = 0; i < s; ++i) r[i * s + i] += kRidge;
  cholesky(r.data(), s, s);
  // The rows of P, with P R = S/sqrt(s).
  std::vector<double> p(d * s);
  for (size_t a = 0; a < d; ++a) {
    double* row = &p[a * s];
    for (size_t j = 0; j < s; ++j) row[j] = double{sketch.row(a)[j]} * scale;
    for (size_t i = 0; i < s; ++i) {
      const double pivot = r[i * s + i];
      row[i] = pivot > 0.0 ? row[i] / pivot : 0.0;
      for (size_t j = i + 1; j < s; ++j) row[j] -= row[i] * r[i * s + j];
    }
  }
  std::vector<double> form(d * d, 0.0);
  for (size_t a = 0; a < d; ++a) {
    for (size_t b = a; b < d; ++b) {
      form[a * d + b] = std::inner_product(&p[a * s], &p[a * s] + s, &p[b * s], 0.0);
    }
  }
  cholesky(form.data(), d, d);
  return {form.begin(), form.end()};
}

}  // namespace

std::vector<float> leverage_scores(Matrix<const float> rows, Matrix<const float> sketch) {
  const AlignedVector<float> centred = centre(rows);
  const Matrix<const float> y(centred.data(), rows.rows, rows.cols);
  const std::vector<float> factor = leverage_factor(precise_gram(y), sketch);
  std::vector<float> scores(rows.rows);
  projected_squares(y, {factor.data(), rows.cols, rows.cols}, scores);
  return scores;
}

Sketches gaussian_sketches(const LayerObservation& layer, size_t columns, uint64_t seed) {
  const size_t dim = layer.keys.dim;
  const size_t group = std::max<size_t>(1, layer.queries.heads / layer.keys.heads);
  const size_t first = layer.first_query_head / group;
  const uint64_t of_layer = Random(seed, "layer", layer.layer).bits();
  Sketches sketches(layer.keys.heads, std::vector<float>(dim * columns));
  for (size_t h = 0; h < sketches.size(); ++h) {
    Random random(of_layer, "sketch", first + h);
    const auto unit = [&] { return (static_cast<double>(random.bits() >> 11U) + 0.5) * 0x1p-53; };
    for (float& x : sketches[h]) {  // Box and Muller (1958)
      const double radius = std::sqrt(-2.0 * std::log(unit()));
      x = static_cast<float>(radius * std::cos(2.0 * std::numbers::pi * unit()));
    }
  }
  return sketches;
}

std::vector<float> standardized_leverage(Heads<const float> rows, const Sketches& sketches) {
  std::vector<float> scores(rows.heads * rows.rows);
  parallel_for(rows.heads, [&](size_t h, size_t) {
    const size_t columns = sketches[h].size() / rows.dim;
    std::ranges::copy(leverage_scores(rows.head(h), {sketches[h].data(), rows.dim, columns}),
                      &scores[h * rows.rows]);
  });
  standardize(scores);
  return scores;
}

void standardize(std::span<float> values) {
  if (values.empty()) return;
  constexpr double kLeastDeviation = 1e-6;
  const auto count = static_cast<double>(values.size());
  double sum = 0.0;
  for (const float x : values) sum += double{x};
  const double mean = sum / count;
  double squares = 0.0;
  for (const float x : values) squares += (double{x} - mean) * (double{x} - mean);
  const double deviation = std::sqrt(squares / std::max(1.0, count - 1));
  for (float& x : values) {
    x = static_cast<float>((double{x} - mean) / std::max(deviation, kLeastDeviation));
  }
}

void check_sketch(const CompressionOptions& options) {
  constexpr int kMostColumns = 1024;  // whose factorisation takes 8 MB
  if (const int columns = own_whole(options, "sketch"); columns < 1 || columns > kMostColumns) {
    throw Error(ErrorCode::kInvalidArgument,
                fmt::format("sketch is {}; expected 1 to {} columns (48 is the authors' value)",
                            columns, kMostColumns));
  }
}

}  // namespace restkv
