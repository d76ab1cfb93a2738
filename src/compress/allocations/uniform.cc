#include "compress/allocation.h"

namespace restkv {

Allocation uniform_allocation() {
  Allocation allocation;
  allocation.name = "uniform";
  allocation.summary = "every head of every layer keeps the budget";
  allocation.allocate = [](const LayerObservation&, const LayerScores& scores, size_t share,
                           const CompressionOptions&) {
    return std::vector<size_t>(scores.heads, share);
  };
  return allocation;
}

}  // namespace restkv
