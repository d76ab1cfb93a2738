#include "compress/row_products.h"

#include <algorithm>
#include <cmath>

#include "restkv/aligned.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "compress/row_products.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "base/gemm-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

using Lanes16 = hn::CappedTag<float, 16>;

float Dot(const float* HWY_RESTRICT a, const float* HWY_RESTRICT b, size_t size) {
  const Lanes16 d;
  const size_t lanes = hn::Lanes(d);
  auto even = hn::Zero(d);  // two sums, since one would wait for its own last addition
  auto odd = hn::Zero(d);
  size_t c = 0;
  for (; c + 2 * lanes <= size; c += 2 * lanes) {
    even = hn::MulAdd(hn::LoadU(d, a + c), hn::LoadU(d, b + c), even);
    odd = hn::MulAdd(hn::LoadU(d, a + c + lanes), hn::LoadU(d, b + c + lanes), odd);
  }
  float sum = 0.0F;
  for (; c < size; ++c) sum += a[c] * b[c];
  return sum + hn::GetLane(hn::SumOfLanes(d, hn::Add(even, odd)));
}

void SquareNorms(Matrix<const float> rows, float* out) {
  for (size_t i = 0; i < rows.rows; ++i) out[i] = Dot(rows.row(i), rows.row(i), rows.cols);
}

void DotProducts(Matrix<const float> rows, const float* vector, float* out) {
  for (size_t i = 0; i < rows.rows; ++i) out[i] = Dot(rows.row(i), vector, rows.cols);
}

/// Rows per step, so that their products fit the L1 cache.
constexpr size_t kFormRows = 6 * kTileRows;

/// out[i] = number(rows[i], rows[i] * matrix) for a matrix with elements element(row, column).
template <class Element, class Number>
HWY_INLINE void ProductNumbers(Matrix<const float> rows, const Element& element,
                               const Number& number, float* out) {
  const Lanes16 d;
  const size_t dim = rows.cols;
  const size_t padded = hwy::RoundUpTo(dim, hn::Lanes(d));
  AlignedVector<float> b(dim * padded);
  for (size_t r = 0; r < dim; ++r) {
    for (size_t c = 0; c < dim; ++c) b[r * padded + c] = element(r, c);
    std::fill_n(&b[r * padded] + dim, padded - dim, 0.0F);
  }
  AlignedVector<float> products(kFormRows * padded);
  for (size_t begin = 0; begin < rows.rows; begin += kFormRows) {
    const auto block = rows.slice(begin, std::min(kFormRows, rows.rows - begin));
    SmallProduct<false>(d, block.rows, padded, dim, block.data, block.stride, b.data(), padded,
                        products.data(), padded);
    for (size_t i = 0; i < block.rows; ++i) {
      out[begin + i] = number(block.row(i), &products[i * padded]);
    }
  }
}

void QuadraticForms(Matrix<const float> rows, Matrix<const float> form, float* out) {
  ProductNumbers(
      rows, [&](size_t r, size_t c) { return form.row(r)[c]; },
      [&](const float* row, const float* product) HWY_ATTR { return Dot(row, product, rows.cols); },
      out);
}

void ProjectedSquares(Matrix<const float> rows, Matrix<const float> matrix, float* out) {
  ProductNumbers(
      rows, [&](size_t r, size_t c) { return matrix.row(c)[r]; },
      [&](const float*, const float* product) HWY_ATTR { return Dot(product, product, rows.cols); },
      out);
}

void GramMatrix(Matrix<const float> rows, Matrix<float> gram) {
  const Lanes16 d;
  const size_t dim = rows.cols;
  const size_t padded = hwy::RoundUpTo(dim, hn::Lanes(d));
  const size_t lines = hwy::RoundUpTo(rows.rows, size_t{16});
  AlignedVector<float> b(rows.rows * padded);
  for (size_t i = 0; i < rows.rows; ++i) {
    std::copy_n(rows.row(i), dim, &b[i * padded]);
    std::fill_n(&b[i * padded] + dim, padded - dim, 0.0F);
  }
  AlignedVector<float> a(dim * lines);
  TransposePadded(rows.data, rows.rows, dim, rows.stride, a.data(), lines, lines);
  AlignedVector<float> product(dim * padded);
  SmallProduct<false>(d, dim, padded, rows.rows, a.data(), lines, b.data(), padded, product.data(),
                      padded);
  for (size_t c = 0; c < dim; ++c) std::copy_n(&product[c * padded], dim, gram.row(c));
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {

HWY_EXPORT(SquareNorms);
HWY_EXPORT(DotProducts);
HWY_EXPORT(QuadraticForms);
HWY_EXPORT(ProjectedSquares);
HWY_EXPORT(GramMatrix);

void square_norms(Matrix<const float> rows, std::span<float> out) {
  HWY_DYNAMIC_DISPATCH(SquareNorms)(rows, out.data());
}
std::vector<float> inverse_norms(Matrix<const float> rows) {
  std::vector<float> norms(rows.rows);
  square_norms(rows, norms);
  for (float& x : norms) x = x > 0.0F ? 1.0F / std::sqrt(x) : 1.0F;
  return norms;
}
void dot_products(Matrix<const float> rows, std::span<const float> vector, std::span<float> out) {
  HWY_DYNAMIC_DISPATCH(DotProducts)(rows, vector.data(), out.data());
}
void quadratic_forms(Matrix<const float> rows, Matrix<const float> form, std::span<float> out) {
  HWY_DYNAMIC_DISPATCH(QuadraticForms)(rows, form, out.data());
}
void projected_squares(Matrix<const float> rows, Matrix<const float> matrix, std::span<float> out) {
  HWY_DYNAMIC_DISPATCH(ProjectedSquares)(rows, matrix, out.data());
}
void gram_matrix(Matrix<const float> rows, Matrix<float> gram) {
  HWY_DYNAMIC_DISPATCH(GramMatrix)(rows, gram);
}

}  // namespace restkv
#endif
