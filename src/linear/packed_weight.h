#pragma once

#include "linear/linear.h"
#include "linear/packed_format.h"
#include "linear/quantized_rows.h"
#include "restkv/aligned.h"
#include "restkv/views.h"

namespace restkv {

/// A copy of a stored weight (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K) that interleaves the
/// blocks of 16 rows for dot products of bytes. Single tokens read it at the speed of memory,
/// several times as fast as rows of the file with their unaligned blocks. It takes as much memory
/// as the rows.
class PackedWeight {
 public:
  static constexpr size_t kPanel = PackedFormat::kRows;

  /// Whether weights of a type can be packed and this processor multiplies bytes
  /// (`has_int8_pairs`).
  static bool supports(ggml_type type);

  explicit PackedWeight(const Weight& weight);

  /// Whether `multiply` needs the first sums of rounded rows.
  [[nodiscard]] bool needs_first_sums() const;

  /// y [n, end - begin] = rounded x [n, cols] times rows [begin, end) of the weight. `begin` is a
  /// multiple of kPanel, and so is `end` unless it is the number of rows. A row of y depends only
  /// on its row of x. Serial; meant for the tasks of a `parallel_for`.
  void multiply(const QuantizedRows::View& x, size_t begin, size_t end, Matrix<float> y) const;

 private:
  ggml_type type_;
  size_t panel_bytes_ = 0;
  AlignedVector<uint8_t> panels_;
};

}  // namespace restkv
