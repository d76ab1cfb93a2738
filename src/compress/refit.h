#pragma once

#include <cstddef>
#include <span>

#include "restkv/compress.h"
#include "restkv/stages.h"
#include "restkv/views.h"

namespace restkv {

/// Throws `Error` (kInvalidArgument) unless the options of refitting are usable.
void check_refit(const CompressionOptions& options);

/// What rows shall stand for: attention of r reference queries to all rows of their head, after the
/// same scale, soft cap and biases.
struct FitTargets {
  Matrix<const float> queries;  ///< [r, d], after rotary embedding.
  std::span<const double> lse;  ///< [r]: logarithms of the softmax denominators.
  Matrix<const float> outputs;  ///< [r, dv]
  float scale = 0.0F;           ///< Of the softmax; 0 means 1/sqrt(d).
  float softcap = 0.0F;
  /// [r], or empty: the logit of a column that no row stands for. It is a part of `lse`.
  std::span<const double> sink_logits = {};
};

/// Rows that are kept, in any order.
struct FitRows {
  Matrix<const float> keys;          ///< [t, d], after rotary embedding.
  Matrix<const float> values;        ///< [t, dv]
  std::span<const float> bias = {};  ///< [t]; empty: 0.
  /// The first visible[i] rows are visible to query i, [r]; empty: all of them.
  std::span<const size_t> visible = {};
};

/// How they are fitted. B = exp(bias) are weights of the rows. With E_ij = exp(z_ij - offset_i),
/// the exponentials of the logits without biases, B solves E B = exp(lse - offset), less the sink's
/// part, and the values C solve softmax(z + log B) C = outputs, both by least squares.
struct FitSettings {
  bool fit_bias = true;
  bool fit_values = true;
  /// Solutions are the nearest to the rows as they are, and ridges pull towards them; false: to 0.
  bool near_rows = true;
  double least_bias = -3.0;  ///< Minus infinity: B is at least 1e-12.
  double most_bias = 3.0;
  /// Projected gradient steps after the least squares for B. The step is that of a power iteration
  /// from `start` [t]; empty: from ones.
  int steps = 2;
  std::span<const float> start = {};
  std::span<const double> offsets = {};  ///< [r]; empty: lse, which weighs all queries alike.
  /// Ridges in units of the largest squared singular value of the system.
  double bias_ridge = 0.0;
  double value_ridge = 0.0;
  /// The ridge of the values is in units of the mean squared singular value instead.
  bool mean_scale = false;
  /// No result has a larger error than the rows as they are.
  bool guarded = true;
};

/// Biases and values with which rows stand best for all rows. Attention Matching, arXiv 2602.16284.
[[nodiscard]] RefittedRows fit_rows(const FitTargets& targets, const FitRows& rows,
                                    const FitSettings& settings);

}  // namespace restkv
