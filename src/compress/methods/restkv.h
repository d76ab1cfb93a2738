#pragma once

#include "restkv/compress.h"

namespace restkv {

/// Quantity that a token's score measures.
enum class Indicator {
  kReconstruction,  ///< ReST-KV: change of the layer's output if the token leaves.
  kAttention,       ///< Sum of the window's attention weights (SnapKV).
  kAttentionValue,  ///< That sum times ||v||_2.
};
/// When ReST-KV turns attention into a reconstruction error.
enum class ReconstructionOrder {
  kAfter,   ///< EMA of the attention first, one metric afterwards (the authors' published code).
  kBefore,  ///< Metric per query, then EMA (the equation of the paper).
};
/// How the rows of the observation window become one.
enum class Temporal { kEma, kMean, kInverseEma, kNewest };

/// The options that restkv declares for itself.
struct RestkvOptions {
  Indicator indicator;
  ReconstructionOrder order;
  Temporal temporal;
  double alpha;    ///< EMA weight of the newer row.
  double tau;      ///< Exponent of the reconstruction norm (order `after` with W_O only).
  bool use_wo;     ///< Measure the error after the output projection W_O.
  bool normalize;  ///< Order `before`: divide by the norm of the output.

  explicit RestkvOptions(const CompressionOptions& options);

  [[nodiscard]] bool reconstructs() const { return indicator == Indicator::kReconstruction; }
};

}  // namespace restkv
