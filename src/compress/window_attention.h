#pragma once

#include <cstddef>
#include <span>

#include "base/aligned.h"
#include "restkv/compress.h"
#include "restkv/views.h"

namespace restkv {

/// Attention weights of the observation window for the query heads of one KV head.
///
/// Row (g, r) holds softmax(q_r . K^T * scale) over all n positions for query head
/// `kv_head * group + g` and window row r, oldest first. The window block is causal: row r sees the
/// window's columns 0..r; weights beyond are exactly 0. Memory: group * window * n floats, kept
/// from one `observe` to the next.
class WindowAttention {
 public:
  /// Throws `Error` (kInput) if a query, key or value that it looks at is NaN or infinite.
  void observe(const LayerObservation& layer, size_t kv_head, size_t window);

  [[nodiscard]] size_t group() const { return group_; }
  [[nodiscard]] size_t window() const { return window_; }
  [[nodiscard]] size_t length() const { return length_; }
  /// Positions before the window, the ones a method has to choose from.
  [[nodiscard]] size_t past() const { return length_ - window_; }
  /// All rows: [group * window, n].
  [[nodiscard]] Matrix<const float> rows() const {
    return {weights_.data(), group_ * window_, length_, stride_};
  }

 private:
  size_t group_ = 0;
  size_t window_ = 0;
  size_t length_ = 0;
  size_t stride_ = 0;
  AlignedVector<float> weights_;
};

/// Combines the window's rows into one per query head: out[g][n] = sum over window rows r of
/// coefficients[r] * A[g, r, n], for the columns of `out` ([group, past]).
void combine_rows(const WindowAttention& attention, std::span<const float> coefficients,
                  Matrix<float> out);

}  // namespace restkv
