#pragma once

#include <cstddef>

#include "restkv/attention.h"
#include "restkv/views.h"

namespace restkv {

/// Logits averaged along antidiagonals (XAttention, Xu et al. 2025). Queries and keys are split
/// into groups of `stride` rows; the result for two groups is the mean of q_(stride-1-i) . k_i.
///
/// out [query_heads, groups of queries, groups of keys] for queries [query_heads, m, d], where row
/// i is key row first + i. An incomplete group at the end uses the rows it has. Results for groups
/// of keys after the last query of a group are undefined. Products are in the precision of
/// attention. Throws `Error` (kUnsupported) if the processor does not support that.
void antidiagonal_logits(Heads<const float> queries, Heads<const float> keys, size_t first,
                         size_t stride, const AttentionOptions& options, Heads<float> out);

}  // namespace restkv
