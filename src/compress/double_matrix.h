#pragma once

#include <cstddef>

#include "restkv/aligned.h"
#include "restkv/views.h"

/// Small matrices in double, for least squares.
namespace restkv {

/// Rows are padded with zeros to whole vectors of any instruction set.
class DoubleMatrix {
 public:
  DoubleMatrix() = default;
  /// Zeros.
  DoubleMatrix(size_t rows, size_t cols);
  explicit DoubleMatrix(Matrix<const float> from);

  [[nodiscard]] size_t rows() const { return rows_; }
  [[nodiscard]] size_t cols() const { return cols_; }
  [[nodiscard]] size_t stride() const { return stride_; }
  [[nodiscard]] double* row(size_t r) { return data_.data() + r * stride_; }
  [[nodiscard]] const double* row(size_t r) const { return data_.data() + r * stride_; }

 private:
  size_t rows_ = 0, cols_ = 0, stride_ = 0;
  AlignedVector<double> data_;
};

[[nodiscard]] DoubleMatrix transposed(const DoubleMatrix& a);
/// A B.
[[nodiscard]] DoubleMatrix product(const DoubleMatrix& a, const DoubleMatrix& b);

/// The sum of the squares of all elements.
[[nodiscard]] double square_norm(const DoubleMatrix& a);
/// The largest eigenvalue of a symmetric matrix without negative ones, to about 12 digits.
[[nodiscard]] double largest_eigenvalue(const DoubleMatrix& a);

/// The X that makes ||A X - B||^2 + ridge ||X||^2 smallest: [cols of A, cols of B]. Without a
/// ridge, it is the smallest of several for an A [m, n] of rank m, and one of them for another
/// rank. `gram` is A A^T if A has fewer rows than columns, else A^T A.
[[nodiscard]] DoubleMatrix least_squares(const DoubleMatrix& a, const DoubleMatrix& gram,
                                         const DoubleMatrix& b, double ridge);
/// That matrix.
[[nodiscard]] DoubleMatrix smaller_gram(const DoubleMatrix& a);

}  // namespace restkv
