#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "restkv/compress.h"
#include "restkv/views.h"

namespace restkv {

/// Statistical leverage of every row: how little the other rows can stand for it. The rows, less
/// their mean, are projected: X = (rows - mean) S / sqrt(s), and the leverage of row i is
/// x_i (X^T X + 0.01 I)^-1 x_i^T. `rows` [n, d]; the sketch S [d, s] is random.
std::vector<float> leverage_scores(Matrix<const float> rows, Matrix<const float> sketch);

/// A sketch for every KV head of a layer, [d, columns] each: independent standard normal numbers.
/// They are the same on every machine, except for the rounding of logarithm and cosine.
using Sketches = std::vector<std::vector<float>>;
Sketches gaussian_sketches(const LayerObservation& layer, size_t columns, uint64_t seed);

/// Leverage of the rows of every head, [heads, n], standardised over all heads together.
std::vector<float> standardized_leverage(Heads<const float> rows, const Sketches& sketches);

/// Subtracts the mean of all values and divides by their standard deviation, which counts as at
/// least 1e-6.
void standardize(std::span<float> values);

/// Checks of the options of methods with a sketch: `sketch` is its number of columns. Throws
/// `Error` (kInvalidArgument).
void check_sketch(const CompressionOptions& options);

}  // namespace restkv
