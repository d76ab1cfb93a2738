#pragma once

#include "linear/linear.h"
#include "linear/packed_format.h"
#include "linear/quantized_rows.h"
#include "restkv/aligned.h"
#include "restkv/views.h"

namespace restkv {

/// A copy of a stored weight (Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K, Q5_K, Q6_K) in which 16 rows lie
/// side by side, block by block, as the instructions that multiply bytes want them: single tokens
/// read it as fast as memory delivers, several times as fast as rows of the file, whose blocks
/// begin anywhere. Takes as much memory as they do.
class PackedWeight {
 public:
  static constexpr size_t kPanel = PackedFormat::kRows;

  /// Whether weights of a type can be packed and this processor multiplies bytes.
  static bool supports(ggml_type type);

  explicit PackedWeight(const Weight& weight);

  /// Whether `multiply` needs the first sums of rounded rows.
  [[nodiscard]] bool needs_first_sums() const;

  /// y [n, end - begin] = rounded x [n, cols] times rows [begin, end) of the weight; `begin` is a
  /// multiple of kPanel, and so is `end` unless it is the last row's. A row of y depends on its row
  /// of x alone. Serial; meant for the tasks of a `parallel_for`.
  void multiply(const QuantizedRows& x, size_t begin, size_t end, Matrix<float> y) const;

 private:
  ggml_type type_;
  size_t panel_bytes_ = 0;
  AlignedVector<uint8_t> panels_;
};

}  // namespace restkv
