#include "compress/double_matrix.h"

#include <algorithm>
#include <cmath>
#include <vector>

#include "compress/cholesky.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/double_matrix.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "base/gemm-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// C = A B. The rows of B that are read at once stay in the cache.
void DoubleProduct(const DoubleMatrix& a, const DoubleMatrix& b, DoubleMatrix& c) {
  const hn::CappedTag<double, 8> d;
  constexpr size_t kDepth = 128;
  for (size_t k = 0; k < b.rows(); k += kDepth) {
    SmallProduct<true>(d, a.rows(), b.stride(), HWY_MIN(kDepth, b.rows() - k), a.row(0) + k,
                       a.stride(), b.row(k), b.stride(), c.row(0), c.stride());
  }
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(DoubleProduct);

/// Elements of the longest vector.
constexpr size_t kPadding = 8;

/// The X with R^T R X = B in place of B, for R of `cholesky`; X is 0 where R has a row of zeros.
void solve(const DoubleMatrix& r, DoubleMatrix& b) {
  const size_t n = r.rows();
  const size_t cols = b.cols();
  const auto subtract = [&](size_t from, double factor, size_t row) {
    const double* x = b.row(row);
    double* y = b.row(from);
    for (size_t c = 0; c < cols; ++c) y[c] -= factor * x[c];
  };
  const auto divide = [&](size_t row) {
    const double pivot = r.row(row)[row];
    const double factor = pivot > 0.0 ? 1.0 / pivot : 0.0;
    for (size_t c = 0; c < cols; ++c) b.row(row)[c] *= factor;
  };
  for (size_t i = 0; i < n; ++i) {
    divide(i);
    for (size_t j = i + 1; j < n; ++j) subtract(j, r.row(i)[j], i);
  }
  for (size_t i = n; i-- > 0;) {
    for (size_t j = i + 1; j < n; ++j) subtract(i, r.row(i)[j], j);
    divide(i);
  }
}

}  // namespace

DoubleMatrix::DoubleMatrix(size_t rows, size_t cols)
    : rows_(rows),
      cols_(cols),
      stride_((cols + kPadding - 1) / kPadding * kPadding),
      data_(rows * stride_, 0.0) {}

DoubleMatrix::DoubleMatrix(Matrix<const float> from) : DoubleMatrix(from.rows, from.cols) {
  for (size_t r = 0; r < rows_; ++r) std::copy_n(from.row(r), cols_, row(r));
}

DoubleMatrix transposed(const DoubleMatrix& a) {
  DoubleMatrix t(a.cols(), a.rows());
  constexpr size_t kBlock = 16;  // so that lines of both are used while they are in the cache
  for (size_t r0 = 0; r0 < a.rows(); r0 += kBlock) {
    for (size_t c = 0; c < a.cols(); ++c) {
      for (size_t r = r0; r < std::min(a.rows(), r0 + kBlock); ++r) t.row(c)[r] = a.row(r)[c];
    }
  }
  return t;
}

DoubleMatrix product(const DoubleMatrix& a, const DoubleMatrix& b) {
  DoubleMatrix c(a.rows(), b.cols());
  HWY_DYNAMIC_DISPATCH(DoubleProduct)(a, b, c);
  return c;
}

double square_norm(const DoubleMatrix& a) {
  double sum = 0.0;
  for (size_t r = 0; r < a.rows(); ++r) {
    for (size_t c = 0; c < a.cols(); ++c) sum += a.row(r)[c] * a.row(r)[c];
  }
  return sum;
}

double largest_eigenvalue(const DoubleMatrix& a) {
  // Power iteration. Gram matrices of weights have no negative elements, and neither has their
  // first eigenvector, so that the start is never far from it.
  constexpr int kMostSteps = 1000;
  constexpr double kTolerance = 1e-13;
  const size_t n = a.rows();
  std::vector<double> x(n, 1.0 / std::sqrt(static_cast<double>(n))), y(n);
  double value = 0.0;
  for (int step = 0; step < kMostSteps; ++step) {
    double square = 0.0;
    for (size_t i = 0; i < n; ++i) {
      double sum = 0.0;
      for (size_t j = 0; j < n; ++j) sum += a.row(i)[j] * x[j];
      y[i] = sum;
      square += sum * sum;
    }
    const double before = value;
    value = std::sqrt(square);
    if (value == 0.0) break;
    for (size_t i = 0; i < n; ++i) x[i] = y[i] / value;
    if (std::abs(value - before) <= kTolerance * value) break;
  }
  return value;
}

DoubleMatrix smaller_gram(const DoubleMatrix& a) {
  const DoubleMatrix t = transposed(a);
  return a.rows() < a.cols() ? product(a, t) : product(t, a);
}

DoubleMatrix least_squares(const DoubleMatrix& a, const DoubleMatrix& gram, const DoubleMatrix& b,
                           double ridge) {
  const bool wide = a.rows() < a.cols();
  DoubleMatrix r = gram;
  for (size_t i = 0; i < r.rows(); ++i) r.row(i)[i] += ridge;
  if (r.rows() > 0) cholesky(r.row(0), r.rows(), r.stride());
  const DoubleMatrix t = transposed(a);
  DoubleMatrix x = wide ? b : product(t, b);
  solve(r, x);
  return wide ? product(t, x) : x;
}

}  // namespace restkv
#endif
