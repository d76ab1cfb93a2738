#include "compress/leverage.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numbers>

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

/// Rows less their mean, times the sketch and 1/sqrt(columns): [n, columns].
std::vector<float> project(Matrix<const float> rows, Matrix<const float> sketch) {
  const size_t n = rows.rows;
  const size_t columns = sketch.cols;
  std::vector<double> mean(rows.cols, 0.0);
  for (size_t i = 0; i < n; ++i) {
    for (size_t c = 0; c < rows.cols; ++c) mean[c] += double{rows.row(i)[c]};
  }
  for (double& x : mean) x /= static_cast<double>(n);
  AlignedVector<float> centred(n * rows.cols);
  for (size_t i = 0; i < n; ++i) {
    for (size_t c = 0; c < rows.cols; ++c) {
      centred[i * rows.cols + c] = static_cast<float>(double{rows.row(i)[c]} - mean[c]);
    }
  }
  std::vector<float> direction(rows.cols), products(n), projected(n * columns);
  const float scale = 1.0F / std::sqrt(static_cast<float>(columns));
  for (size_t s = 0; s < columns; ++s) {
    for (size_t c = 0; c < rows.cols; ++c) direction[c] = sketch.row(c)[s] * scale;
    dot_products({centred.data(), n, rows.cols}, direction, products);
    for (size_t i = 0; i < n; ++i) projected[i * columns + s] = products[i];
  }
  return projected;
}

}  // namespace

std::vector<float> leverage_scores(Matrix<const float> rows, Matrix<const float> sketch) {
  const size_t s = sketch.cols;
  const std::vector<float> x = project(rows, sketch);
  std::vector<double> r(s * s, 0.0);
  for (size_t i = 0; i < rows.rows; ++i) {
    const float* row = &x[i * s];
    for (size_t a = 0; a < s; ++a) {
      for (size_t b = a; b < s; ++b) r[a * s + b] += double{row[a]} * double{row[b]};
    }
  }
  for (size_t a = 0; a < s; ++a) r[a * s + a] += kRidge;
  cholesky(r.data(), s, s);
  // x (R^T R)^-1 x^T = ||y||^2 with R^T y = x^T.
  std::vector<float> scores(rows.rows);
  std::vector<double> y(s);
  for (size_t i = 0; i < rows.rows; ++i) {
    double square = 0.0;
    for (size_t a = 0; a < s; ++a) {
      auto rest = double{x[i * s + a]};
      for (size_t b = 0; b < a; ++b) rest -= r[b * s + a] * y[b];
      const double pivot = r[a * s + a];
      y[a] = pivot > 0.0 ? rest / pivot : 0.0;
      square += y[a] * y[a];
    }
    scores[i] = static_cast<float>(square);
  }
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
