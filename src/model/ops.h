#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "model/architecture.h"
#include "model/router.h"
#include "restkv/model.h"
#include "restkv/query_statistics.h"
#include "restkv/views.h"

/// The element-wise operations between the matrix products of a transformer, on all threads.
namespace restkv {

/// y[i] = x[i] / rms(x[i]) * weight for every row i; rms(x) = sqrt(mean(x^2) + epsilon). Without a
/// weight y = x.
void rms_norm(Matrix<const float> x, std::span<const float> weight, float epsilon, Matrix<float> y);

/// x += y.
void add(Matrix<float> x, Matrix<const float> y);

/// The same for every row of every head, in place.
void rms_norm_heads(Heads<float> x, std::span<const float> weight, float epsilon);

/// x += bias, for every row.
void add_bias(Matrix<float> x, std::span<const float> bias);

/// x *= factor.
void scale(Matrix<float> x, float factor);

/// x = cap * tanh(x / cap).
void softcap(Matrix<float> x, float cap);

/// gate = activation(gate) * up, for rows of [gate | up], each half as wide (Shazeer 2020). The
/// result fills the first half of each row.
void gate_multiply(Matrix<float> gate_up, Activation activation);

/// y[i] *= sigmoid(x[i] . weight) for every row i.
void gate_rows(Matrix<const float> x, std::span<const float> weight, Matrix<float> y);

/// y[i] = row `rows[i].row` of x.
void gather_rows(Matrix<const float> x, std::span<const Routing::Row> rows, Matrix<float> y);
/// Row `rows[i].row` of y += `rows[i].weight` * x[i], in the order of i.
void add_weighed_rows(Matrix<const float> x, std::span<const Routing::Row> rows, Matrix<float> y);

/// Positions first, first + 1, ...
std::vector<size_t> consecutive(size_t first, size_t count);

/// Table of cos and sin for every (position, frequency). It grows to the requested positions and
/// keeps them. Throws `Error` (kInvalidArgument) on positions beyond `kMostPositions`, for instance
/// a negative one converted to unsigned.
class RopeTable {
 public:
  static constexpr size_t kMostPositions = size_t{1} << 31U;  // a cache counts them in 32 bits

  /// `factors` [dim / 2] divide the frequencies; empty: none.
  RopeTable(const RopeConfig& config, std::span<const float> factors, RopeStyle style);

  /// Computes positions [0, end) at once, for callers that use them in small steps.
  void grow(size_t end);
  /// Rotates the rows of every head in place; row i has the position `positions[i]`.
  void rotate(Heads<float> x, std::span<const size_t> positions);
  /// The inverse of `rotate`, for rows from position `first` on.
  void rotate_back(Heads<float> x, size_t first);
  /// Rotates a key of every head, x [heads, 1, d], from position `from` to position `to`.
  void move(Heads<float> x, size_t from, size_t to);
  /// The rotation of one position, which may be far beyond those of the table.
  [[nodiscard]] MeanRotation at(size_t position) const;
  /// The rotation averaged over positions [first, first + count).
  [[nodiscard]] MeanRotation mean(size_t first, size_t count);

 private:
  void reach(size_t first, size_t count);
  /// Rotates a row by the angles of `position`, which the table must have, times factors.
  void rotate_row(Heads<float> x, size_t row, size_t position, float cosine_factor,
                  float sine_factor) const;

  size_t pairs_;
  RopeStyle style_;
  double magnitude_;
  std::vector<double> frequencies_;  // [pairs]
  std::vector<float> table_;         // [positions][2][pairs]: cos, then sin
};

}  // namespace restkv
