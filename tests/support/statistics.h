#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "restkv/query_statistics.h"

namespace restkv::testing {

/// Writes what `restkv calibrate` writes: for `triattention` [layers, heads, pairs], and with a
/// width for `kvzap` the maps of [layers, KV heads, width].
struct StatisticsFile {
  size_t layers = 0;
  size_t heads = 0;
  size_t pairs = 0;
  std::vector<float> real = {}, imaginary = {}, magnitude = {};
  size_t kv_heads = 0;
  size_t width = 0;

  /// Numbers without a pattern.
  static StatisticsFile of(size_t layers, size_t heads, size_t pairs, size_t kv_heads = 1,
                           size_t width = 1);
  void write(const std::string& path) const;
};

/// Rotary embeddings of positions, for heads of 2 * pairs channels.
std::vector<MeanRotation> rotations_of(size_t pairs, double base,
                                       const std::vector<size_t>& positions);

}  // namespace restkv::testing
