#pragma once

#include <cstddef>
#include <vector>

#include "restkv/aligned.h"
#include "restkv/views.h"

namespace restkv {

class ByteReader;
class ByteWriter;

/// Sums of a linear regression of several targets y on the same features x, over any number of
/// rows, in O((features + targets)^2) memory. Sums are products of deviations from the mean in
/// float64; blocks are merged by the formula of Chan, Golub and LeVeque (1983).
class RidgeSums {
 public:
  RidgeSums() = default;
  RidgeSums(size_t features, size_t targets);

  /// Adds rows of features [m, features] and targets [m, targets].
  void add(Matrix<const float> features, Matrix<const float> targets);
  /// Rows so far.
  [[nodiscard]] size_t count() const { return count_; }
  [[nodiscard]] size_t bytes() const { return (means_.size() + sums_.size()) * sizeof(double); }

  struct Fit {
    std::vector<double> weights;  ///< [targets, features]
    std::vector<double> bias;     ///< [targets]
    std::vector<double> r2;       ///< [targets]: R^2 on the rows of the fit; 0 for a constant.
  };
  /// Weights w and bias b that minimise, for each target, the sum over rows of (y - w.x - b)^2 plus
  /// alpha ||w||^2, with alpha > 0: w = (X'X + alpha I)^-1 X'y of deviations from the means.
  [[nodiscard]] Fit solve(double alpha) const;

  /// `load` replaces the sums by saved ones of the same shape; it throws `Error` (kInput) on
  /// others.
  void save(ByteWriter& out) const;
  void load(ByteReader& in);

 private:
  [[nodiscard]] size_t columns() const { return features_ + targets_; }

  size_t features_ = 0, targets_ = 0;
  size_t stride_ = 0;
  size_t count_ = 0;
  std::vector<double> means_;   ///< Of features, then targets.
  AlignedVector<double> sums_;  ///< [columns, stride]; only the upper triangle is valid.
};

}  // namespace restkv
