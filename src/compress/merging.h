#pragma once

#include <cstdint>
#include <vector>

#include "restkv/compress.h"
#include "restkv/selection.h"
#include "restkv/views.h"

namespace restkv {

/// Throws `Error` (kInvalidArgument) unless the options of merging are usable.
void check_merging(const CompressionOptions& options);

/// Where the value of an evicted row goes.
struct Merge {
  int32_t evicted = 0;
  int32_t target = 0;       ///< A kept row; -1: it is lost.
  float similarity = 0.0F;  ///< Cosine of both keys.
};

/// The merges of every head, in the order of evicted rows: see `merge_evicted` (stages.h).
/// `selection` has one ascending list for each of the heads of `keys`.
std::vector<std::vector<Merge>> find_merges(Heads<const float> keys, const Selection& selection,
                                            const CompressionOptions& options);

/// Carries them out, in place.
void merge_values(const std::vector<std::vector<Merge>>& merges, Heads<float> values);

}  // namespace restkv
