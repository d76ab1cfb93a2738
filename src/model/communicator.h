#pragma once

#include "restkv/views.h"

namespace restkv {

/// Tensor parallelism: processes share the heads and the feed-forward channels of every layer. Each
/// computes a part of the sums over them; `all_reduce` adds the parts.
class Communicator {
 public:
  virtual ~Communicator() = default;
  /// Replaces `x` [n, C] by the sum over all processes. Nothing to do for one.
  virtual void all_reduce(Matrix<float> x) = 0;
};

/// A process that computes alone.
Communicator& single_process();

}  // namespace restkv
