#pragma once

#include <array>
#include <cstddef>
#include <vector>

#include "restkv/attention.h"
#include "restkv/views.h"

namespace restkv::testing {

/// Those that a processor can have.
inline constexpr std::array kAttentionPrecisions{
    AttentionPrecision::kF32, AttentionPrecision::kBf16, AttentionPrecision::kInt8};

/// Rows of float64 results beside the error that a kernel's arithmetic may make in each row.
struct Expected {
  size_t cols = 0;
  std::vector<double> values;      ///< [rows, cols].
  std::vector<double> tolerances;  ///< [rows].

  [[nodiscard]] const double* row(size_t r) const { return values.data() + r * cols; }
};

/// Attention of one query over `visible` rows, in float64 and in the order of the formula. The
/// first row of `options.bias`, if given, has the biases of the rows, and the first of
/// `options.sink_logits` is the query's.
///
/// Appends a row to `expected`. Its tolerance: roundings rarely agree, so a float32 logit
/// sum_c q_c k_c is off by less than 2^-24 sum_c |q_c k_c|; a logit off by e changes its weight by
/// a factor of 1 + e and the output, an average of values, by at most 2 e max |v|; the soft cap
/// adds c times the error of tanh; weights and sums add 5e-7 max |v|. Kernels that are right use up
/// about a third of it. With bfloat16 factors 2^-9 and 2^-8 take the places of 2^-24 and 5e-7. In 8
/// bits each factor of a logit is off by up to half a step of 1/127 of its row's largest, a value
/// by as much of its channel's, and each of 64 weights by half a step of 1/127 (with VNNI 1/255) of
/// the largest of them.
void expect_attention(const float* query, Matrix<const float> visible_keys,
                      Matrix<const float> visible_values, const AttentionOptions& options,
                      Expected& expected);

/// Causal attention of query rows at positions first, first + 1, ...: rows [query_head][i].
Expected causal_attention(Heads<const float> queries, Heads<const float> keys,
                          Heads<const float> values, size_t first, const AttentionOptions& options);

/// Largest error as a multiple of its tolerance, over all rows; NaN counts as infinite.
double worst_error(const Expected& expected, size_t row, const float* actual);

}  // namespace restkv::testing
