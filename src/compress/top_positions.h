#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "restkv/aligned.h"

namespace restkv {

/// Finds the largest values of a row in linear time. Reuses its buffers (two integers per value);
/// use one object per thread.
class TopPositions {
 public:
  /// Positions of the `count` largest values, ascending; among equal values the lowest positions
  /// win. Values must not be NaN. Valid until the next call. Throws `Error` (kInvalidArgument) if
  /// count > values.size().
  std::span<const int32_t> find(std::span<const float> values, size_t count);

  /// The sum of the positions of `find`; faster for short rows. Throws like `find`.
  int64_t sum(std::span<const float> values, size_t count);

 private:
  /// A key that exactly `count` of the first `found` keys reach; the last of equal keys are
  /// lowered.
  int32_t cut(size_t found, size_t count);

  AlignedVector<int32_t> positions_;
  AlignedVector<int32_t> keys_;
};

}  // namespace restkv
