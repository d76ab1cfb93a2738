#pragma once

#include "linear/linear.h"

namespace restkv {

/// Products of stored rows of 4-bit (Q4_0, Q4_1) and 8-bit codes (Q8_0) with rows of x in 8 bits,
/// where the processor multiplies four bytes at a time. Reads weights about twice as fast as ggml's
/// dot products.
struct VnniProduct {
  /// Bytes of a rounded row of x, a multiple of 64.
  size_t (*row_bytes)(size_t cols);
  /// Rounds every 32 numbers of a row to whole numbers of -127 to 127 times a step that fits the
  /// largest of them. A block with a number that is infinite or NaN makes its products NaN. `out`
  /// begins at a multiple of 64.
  void (*round)(const float* x, size_t cols, char* out);
  /// y [n, end - begin] = n rounded rows of x, one after the other, times rows [begin, end) of the
  /// weight. Serial; meant for the tasks of a `parallel_for`.
  void (*multiply)(const Weight& weight, size_t begin, size_t end, const char* x, Matrix<float> y);
};

/// The one for a type of weights, or null if there is none or this processor lacks AVX-512 VNNI.
const VnniProduct* find_vnni_product(ggml_type type);

}  // namespace restkv
