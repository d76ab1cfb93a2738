#pragma once

#include <cstddef>

#include "restkv/attention.h"
#include "restkv/views.h"

namespace restkv {

/// Where the attention of a sample of queries lies, tile by tile.
///
/// out [query_heads, blocks, tiles]: what `samples` evenly spread queries of each block of 64 give
/// to each tile of keys, added up; each query gives 1 in all. Row i of queries [query_heads, m, d]
/// stands at key row first + i; a query that is missing at the end is replaced by the last one.
/// Products are in the precision of attention. Throws `Error` (kUnsupported) if the processor has
/// not that.
void sampled_attention(Heads<const float> queries, Heads<const float> keys, size_t first,
                       size_t samples, const AttentionOptions& options, Heads<float> out);

}  // namespace restkv
