#include "calibrate/ridge.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "base/bytes.h"
#include "base/threads.h"
#include "compress/cholesky.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "calibrate/ridge.cc"
#include "hwy/foreach_target.h"
// After foreach_target.h.
#include "base/gemm-inl.h"
#include "hwy/highway.h"

HWY_BEFORE_NAMESPACE();
namespace restkv::HWY_NAMESPACE {

/// Adds to sums [rows, cols] the product of a [rows, depth] and b [depth, cols].
void AddProduct(Matrix<const double> a, Matrix<const double> b, Matrix<double> sums) {
  const hn::CappedTag<double, 8> d;
  SmallProduct<true>(d, sums.rows, sums.cols, a.cols, a.data, a.stride, b.data, b.stride, sums.data,
                     sums.stride);
}

}  // namespace restkv::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace restkv {
namespace {

HWY_EXPORT(AddProduct);

/// Columns per vector of any instruction set divide it.
constexpr size_t kColumnUnit = 8;
/// Rows per product, few enough for a panel of them to stay in the cache.
constexpr size_t kBlockRows = 128;
/// Rows of sums that a thread takes at a time.
constexpr size_t kPanel = 48;
static_assert(kPanel % kColumnUnit == 0);

size_t padded(size_t columns) { return (columns + kColumnUnit - 1) / kColumnUnit * kColumnUnit; }

}  // namespace

RidgeSums::RidgeSums(size_t features, size_t targets)
    : features_(features),
      targets_(targets),
      stride_(padded(features + targets)),
      means_(features + targets, 0.0),
      sums_(columns() * stride_) {
  std::fill(sums_.begin(), sums_.end(), 0.0);
}

void RidgeSums::add(Matrix<const float> features, Matrix<const float> targets) {
  // One line more than rows: see below.
  AlignedVector<double> lines((kBlockRows + 1) * stride_);
  AlignedVector<double> transposed(columns() * (kBlockRows + 1));
  std::vector<double> mean(columns());
  for (size_t begin = 0; begin < features.rows; begin += kBlockRows) {
    const size_t rows = std::min(kBlockRows, features.rows - begin);
    std::fill(lines.begin(), lines.end(), 0.0);
    std::fill(mean.begin(), mean.end(), 0.0);
    for (size_t i = 0; i < rows; ++i) {
      double* line = &lines[i * stride_];
      std::copy_n(features.row(begin + i), features_, line);
      std::copy_n(targets.row(begin + i), targets_, line + features_);
      for (size_t c = 0; c < columns(); ++c) mean[c] += line[c];
    }
    for (double& x : mean) x /= static_cast<double>(rows);
    // The distance between the means of the block and of all rows before it counts as one more
    // line of deviations.
    const auto before = static_cast<double>(count_);
    const auto added = static_cast<double>(rows);
    const double weight = std::sqrt(before * added / (before + added));
    double* moved = &lines[rows * stride_];
    for (size_t c = 0; c < columns(); ++c) {
      for (size_t i = 0; i < rows; ++i) lines[i * stride_ + c] -= mean[c];
      moved[c] = weight * (mean[c] - means_[c]);
      means_[c] += (mean[c] - means_[c]) * added / (before + added);
    }
    count_ += rows;
    const size_t depth = rows + 1;
    parallel_for((columns() + kPanel - 1) / kPanel, [&](size_t panel, size_t) {
      const size_t first = panel * kPanel;
      const size_t count = std::min(kPanel, columns() - first);
      for (size_t c = first; c < first + count; ++c) {
        for (size_t i = 0; i < depth; ++i) transposed[c * depth + i] = lines[i * stride_ + c];
      }
      HWY_DYNAMIC_DISPATCH(AddProduct)
      ({&transposed[first * depth], count, depth}, {&lines[first], depth, stride_ - first, stride_},
       {&sums_[first * stride_ + first], count, stride_ - first, stride_});
    });
  }
}

RidgeSums::Fit RidgeSums::solve(double alpha) const {
  const size_t n = features_;
  std::vector<double> r(n * n);  // R with R'R = X'X + alpha I
  for (size_t i = 0; i < n; ++i) {
    std::copy_n(&sums_[i * stride_ + i], n - i, &r[i * n + i]);
    r[i * n + i] += alpha;
  }
  cholesky(r.data(), n, n);
  Fit fit{.weights = std::vector<double>(targets_ * n),
          .bias = std::vector<double>(targets_),
          .r2 = std::vector<double>(targets_)};
  for (size_t t = 0; t < targets_; ++t) {
    const size_t column = n + t;
    const std::span<double> w(&fit.weights[t * n], n);
    std::vector<double> product(n);  // X'y
    for (size_t i = 0; i < n; ++i) product[i] = sums_[i * stride_ + column];
    std::ranges::copy(product, w.begin());
    for (size_t i = 0; i < n; ++i) {  // R'u = X'y
      w[i] = r[i * n + i] > 0 ? w[i] / r[i * n + i] : 0.0;
      for (size_t j = i + 1; j < n; ++j) w[j] -= r[i * n + j] * w[i];
    }
    for (size_t i = n; i-- > 0;) {  // R w = u
      double sum = w[i];
      for (size_t j = i + 1; j < n; ++j) sum -= r[i * n + j] * w[j];
      w[i] = r[i * n + i] > 0 ? sum / r[i * n + i] : 0.0;
    }
    double explained = 0.0;  // w'X'y
    double squares = 0.0;    // w'w
    fit.bias[t] = means_[column];
    for (size_t i = 0; i < n; ++i) {
      explained += w[i] * product[i];
      squares += w[i] * w[i];
      fit.bias[t] -= w[i] * means_[i];
    }
    // The residuals are y'y - 2 w'X'y + w'X'X w, and X'X w is X'y - alpha w.
    const double total = sums_[column * stride_ + column];
    fit.r2[t] = total > 0 ? (explained + alpha * squares) / total : 0.0;
  }
  return fit;
}

void RidgeSums::save(ByteWriter& out) const {
  out.number<uint64_t>(count_);
  out.array(std::span<const double>(means_));
  for (size_t i = 0; i < columns(); ++i) {
    out.array(std::span<const double>(&sums_[i * stride_ + i], columns() - i));
  }
}

void RidgeSums::load(ByteReader& in) {
  count_ = in.number<uint64_t>();
  std::vector<double> row;
  in.array(row);
  in.expect(row.size() == columns(), "its sums do not fit the model");
  means_ = row;
  for (size_t i = 0; i < columns(); ++i) {
    in.array(row);
    in.expect(row.size() == columns() - i, "its sums do not fit the model");
    std::ranges::copy(row, &sums_[i * stride_ + i]);
  }
}

}  // namespace restkv
#endif
