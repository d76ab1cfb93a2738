#pragma once

#include "restkv/views.h"

namespace restkv {

/// Processes that share the heads and the feed-forward channels of every layer. Each has its part
/// of a sum over them; where the sum is needed, all meet.
class Communicator {
 public:
  virtual ~Communicator() = default;
  /// Replaces `x` [n, C] by the sum over all processes. Nothing to do for one.
  virtual void all_reduce(Matrix<float> x) = 0;
};

/// A process that computes alone.
Communicator& single_process();

}  // namespace restkv
