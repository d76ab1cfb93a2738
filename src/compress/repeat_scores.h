#pragma once

#include <cstddef>
#include <span>
#include <vector>

#include "base/threads.h"
#include "restkv/compress.h"

/// What methods with a repeat pass share.
namespace restkv {

/// Their options: "repeat_chunk" and "keep_prefix".
std::vector<OwnOption> repeat_options();

/// With the repeat pass of KVzip's authors: chunks of 2048 tokens, which see the whole prompt.
CompressionOptions with_authors_repeat(CompressionOptions options);

/// Throws `Error` (kInvalidArgument) unless sinks, repeat_chunk and allocation can be used.
void check_repeat(const CompressionOptions& options);

/// Scores of cache heads: the numbers that were watched, changed by weigh(query_head, numbers) and
/// reduced over the group. Tokens without a number are the sinks, which are always kept; what
/// stands in front of the first chunk, which is kept or scores 0 as keep_prefix says; and answers
/// since the last prompt, which are kept, the newest first.
LayerScores repeat_scores(const LayerObservation& layer, const CompressionOptions& options,
                          GroupReduce reduce,
                          FunctionRef<void(size_t query_head, std::span<float> numbers)> weigh);

}  // namespace restkv
