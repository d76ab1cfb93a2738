#pragma once

#include <span>
#include <vector>

#include "restkv/views.h"

/// Vectorised products of many rows (keys or values of one head) with few vectors.
namespace restkv {

/// out[i] = sum over c of rows[i][c]^2.
void square_norms(Matrix<const float> rows, std::span<float> out);

/// out[i] = rows[i] . vector.
void dot_products(Matrix<const float> rows, std::span<const float> vector, std::span<float> out);

/// 1 / ||rows[i]||; 1 for a row of zeros.
std::vector<float> inverse_norms(Matrix<const float> rows);

/// out[i] = ||matrix * rows[i]||^2 for a matrix [d, d].
void projected_squares(Matrix<const float> rows, Matrix<const float> matrix, std::span<float> out);

/// out[i] = rows[i] . (form * rows[i]) for a symmetric form [d, d].
void quadratic_forms(Matrix<const float> rows, Matrix<const float> form, std::span<float> out);

/// The sum over rows of rows[i]^T rows[i]: gram [d, d].
void gram_matrix(Matrix<const float> rows, Matrix<float> gram);

}  // namespace restkv
