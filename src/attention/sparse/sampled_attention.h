#pragma once

#include <cstddef>

#include "restkv/attention.h"
#include "restkv/views.h"

namespace restkv {

/// Attention of a sample of queries, summed by tiles.
///
/// out [query_heads, blocks, tiles]: the sum of the attention of `samples` evenly spread queries of
/// each block of 64 to each tile of keys; each query contributes 1. Row i of queries [query_heads,
/// m, d] is key row first + i. A missing query at the end is replaced by the last one. Products are
/// in the precision of attention. Throws `Error` (kUnsupported) if the processor does not support
/// that.
void sampled_attention(Heads<const float> queries, Heads<const float> keys, size_t first,
                       size_t samples, const AttentionOptions& options, Heads<float> out);

}  // namespace restkv
