#pragma once

#include <ggml.h>

#include <memory>

#include "restkv/views.h"

namespace restkv::bench {

/// ggml's own matrix product, as libllama runs it: y [n, rows] = x [n, cols] W^T on a graph of one
/// node, with as many threads as `parallel_for` has.
class GgmlProduct {
 public:
  /// `weight` [rows, cols] in a ggml type. `repacked` repacks it as libllama does when it loads a
  /// model, if ggml supports that for this type on this processor.
  GgmlProduct(ggml_type type, size_t rows, size_t cols, const void* weight, bool repacked,
              Matrix<const float> x);
  ~GgmlProduct();

  /// Whether ggml has a repacked layout, or `repacked` was false.
  [[nodiscard]] bool possible() const;
  void run();
  [[nodiscard]] Matrix<const float> result() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace restkv::bench
