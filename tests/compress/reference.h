#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include "restkv/compress.h"
#include "restkv/views.h"

namespace restkv::testing {

/// One layer of random arrays with the view of it that selections take.
struct RandomLayer {
  /// Queries get `sharpness` times the spread of keys. The arrays are interleaved by head
  /// ([row, head, d]), as a model's projections leave them.
  RandomLayer(size_t query_heads, size_t kv_heads, size_t length, size_t dim, size_t query_rows,
              size_t width, uint32_t seed, float sharpness = 2.0F);

  std::vector<float> q, k, v, wo;
  Matrix<const float> output_projection;
  OutputFactor factor;
  LayerObservation view;
};

/// What `select_tokens` should compute, as the definitions have it: float64, one loop per sum, the
/// full C x d block of W_O, recursions written out.
struct ReferenceResult {
  std::vector<std::vector<double>> raw;       ///< As SelectionTrace.
  std::vector<std::vector<double>> smoothed;  ///< As SelectionTrace.
  std::vector<double> drift;
  std::vector<int> kernel;
  std::vector<int> shift;
  std::vector<std::vector<double>> scores;  ///< What decides: [cache head][past].
};
ReferenceResult reference_scores(const LayerObservation& layer, Matrix<const float> wo,
                                 const CompressionOptions& options);

}  // namespace restkv::testing
