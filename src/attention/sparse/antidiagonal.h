#pragma once

#include <cstddef>

#include "restkv/attention.h"
#include "restkv/views.h"

namespace restkv {

/// Logits averaged along antidiagonals: queries and keys fall into groups of `stride` rows, and a
/// group of queries meets a group of keys at the mean of q_(stride-1-i) . k_i.
///
/// out [query_heads, groups of queries, groups of keys] for queries [query_heads, m, d] whose row i
/// stands at key row first + i; a group that is cut off at the end counts with the rows it has.
/// Groups of keys behind the last query of a group of queries are left undefined. Products are in
/// the precision of attention. Throws `Error` (kUnsupported) if the processor has not that.
void antidiagonal_logits(Heads<const float> queries, Heads<const float> keys, size_t first,
                         size_t stride, const AttentionOptions& options, Heads<float> out);

}  // namespace restkv
