#pragma once

#include <cstddef>
#include <span>

#include "restkv/aligned.h"
#include "restkv/compress.h"
#include "restkv/stages.h"
#include "restkv/views.h"

namespace restkv {

/// The space of the norm of a reconstruction error: W_h x for some query heads (through their
/// factors R), or x itself if `factor` is null.
struct ErrorSpace {
  const OutputFactor* factor = nullptr;
  size_t first_head = 0;                                    ///< Query head of the first row.
  AttentionPrecision precision = AttentionPrecision::kF32;  ///< Of products of R with values.
};

/// Lower bound of 1 - a in the factor a / (1 - a): the distance of 1 from its lower neighbour in
/// float32. The published code returns infinity or NaN for a == 1. There the output equals the
/// value up to rounding and the norm cancels to 0, so it is at least 2^-24 ||W_h o||: a token with
/// all the attention scores at least ||W_h o||.
inline constexpr float kSmallestRest = 0x1p-24F;

/// Outputs of every query head for attention `combined` [query_heads, n] over the window,
/// restricted to the past: o = sum over past n of b_n v_n, [query_heads, d].
/// `LayerObservation::outputs`, if given, save a pass over the values.
AlignedVector<float> combined_outputs(const LayerObservation& layer,
                                      std::span<const float> coefficients,
                                      Matrix<const float> combined);

/// ReST-KV, order `after`: one error per position from attention already combined over the window.
///   raw[g][n] = b/(1-b) * ||W_h (o - v_n)||^tau,  b = combined[g][n],  o: see combined_outputs
/// combined and raw, which may be the same, are [query_heads, past]; values [kv_heads, >= past, d].
/// tau is ignored without W_O, as in the authors' code.
void reconstruction_after(Matrix<const float> combined, AlignedVector<float> outputs,
                          Heads<const float> values, ErrorSpace space, double tau,
                          Matrix<float> raw);

/// Outputs of every row of the window of one KV head's query heads: o_r = sum over all n (window
/// included) of A[g, r, n] v_n, [group * window, d]. Uses `LayerObservation::outputs` if given.
AlignedVector<float> row_outputs(const LayerObservation& layer, const WindowAttention& attention,
                                 size_t kv_head);

/// ReST-KV, order `before` (the paper's equation): one error per window row, combined afterwards.
///   raw[g][n] = sum_r coefficients[r] * a/(1-a) * ||W_h (o_r - v_n)||,  a = A[g, r, n]
/// with o_r as of row_outputs; `normalize` divides each row's errors by ||W_h o_r||.
void reconstruction_before(const WindowAttention& attention, AlignedVector<float> outputs,
                           Matrix<const float> values, ErrorSpace space, bool normalize,
                           std::span<const float> coefficients, Matrix<float> raw);

/// DropKV: the squared change of the window's outputs without a token.
///   raw[g][n] = sum_r (a / (1 - a + epsilon))^2 * ||o_r - v_n||^2,  a = A[g, r, n]
/// with o_r as of row_outputs; raw is [group, up to n]. Distances are computed directly: the
/// expanded square would cancel where an output is close to a value.
void squared_reconstruction(const WindowAttention& attention, const AlignedVector<float>& outputs,
                            Matrix<const float> values, float epsilon, Matrix<float> raw);

/// raw[h][n] = combined[h][n] * ||v_n||; shapes as above.
void attention_times_value(Matrix<const float> combined, Heads<const float> values,
                           Matrix<float> raw);

}  // namespace restkv
